import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { CONFIG_FIELDS, checkConfig, isMoeA2AError, type MoeAllToAllConfig } from "@moe-a2a/core";
import type { DiagnoseOptions } from "../diagnose/diagnosis.js";
import { combineBytesPerToken, dispatchBytesPerToken, type TokenForm } from "../quant.js";
import { type BackendPreference, checkPreference } from "../select-backend.js";
import { UsageError } from "./command.js";

/** What `moe-a2a doctor` was asked for. */
export interface DoctorOptions {
  readonly json: boolean;
  readonly diagnose: DiagnoseOptions;
}

const OPTIONS = {
  json: { type: "boolean" },
  backend: { type: "string" },
  config: { type: "string" },
  timeout: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

/** The form of tokens, in place of the byte limits that follow from it. */
const FORM_FIELDS = ["hiddenSize", "dtype", "format"];

/**
 * Reads the command line.
 *
 * @throws UsageError
 */
export function readDoctorArgs(args: readonly string[]): DoctorOptions | "help" {
  const values = parse(args);
  if (values.help) return "help";
  const { backend = "auto", config, timeout } = values;
  const options: { -readonly [K in keyof DiagnoseOptions]: DiagnoseOptions[K] } = {
    backend: asUsage(() => {
      checkPreference("--backend", backend as BackendPreference);
      return backend as BackendPreference;
    }),
  };
  if (timeout !== undefined) {
    if (!/^[1-9]\d{0,8}$/.test(timeout))
      throw new UsageError(`--timeout is "${timeout}"; it must be milliseconds`);
    options.timeoutMs = Number(timeout);
  }
  if (config !== undefined) options.config = asUsage(() => readConfig(config));
  return { json: values.json ?? false, diagnose: options };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof UsageError || !isMoeA2AError(error)) throw error;
    throw new UsageError(error.message);
  }
}

/** The config in a file, or in the argument itself. */
function readConfig(text: string): MoeAllToAllConfig {
  const given = parseJson(text.trimStart().startsWith("{") ? text : readText(text));
  const known: readonly string[] = [...CONFIG_FIELDS, ...FORM_FIELDS];
  const unknown = Object.keys(given).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new UsageError(
      `--config has ${unknown.join(", ")}, which is no field of a config; these are: ${known.join(", ")}`,
    );
  }
  const config = Object.fromEntries(Object.entries(given).filter(([name]) => !FORM_FIELDS.includes(name)));
  if (given.hiddenSize !== undefined) {
    const form = given as unknown as TokenForm & { topK: number };
    config.maxDispatchBytesPerToken ??= dispatchBytesPerToken(form);
    config.maxCombineBytesPerToken ??= combineBytesPerToken(form);
  }
  return checkConfig(config as unknown as MoeAllToAllConfig);
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new UsageError(`--config is no JSON object, and no file either: ${(error as Error).message}`);
  }
}

function parseJson(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
    throw new Error("it is no object");
  } catch (error) {
    throw new UsageError(`--config is no JSON: ${(error as Error).message}`);
  }
}
