import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "./documents.js";
import { programOf } from "./manifests.js";

const FOLDER = join(ROOT, "examples");
const execute = promisify(execFile);

/** The names of the programs in `examples/`. */
export function exampleNames(): string[] {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith(".mjs"));
  return files.map((file) => file.slice(0, -".mjs".length)).sort();
}

/** Where an example's source is. */
export const exampleFile = (name: string): string => join(FOLDER, `${name}.mjs`);

/**
 * Runs an example to its end, as one process or as one per rank.
 *
 * @returns its lines on standard output
 * @throws (rejects) where it fails, does not end, or writes to standard error
 */
export async function runExample(name: string, ranks?: number): Promise<string[]> {
  const launcher =
    ranks === undefined ? [] : [programOf("@moe-a2a/sglang") as string, "run", `--ranks=${ranks}`];
  const settings = { timeout: 20_000, killSignal: "SIGKILL" } as const;
  const { stdout, stderr } = await execute(process.execPath, [...launcher, exampleFile(name)], settings);
  if (stderr !== "") throw new Error(`${name} wrote to standard error:\n${stderr}`);
  return stdout.trimEnd().split("\n");
}
