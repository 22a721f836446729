import { createRequire } from "node:module";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { LIMITS } from "@moe-a2a/core";
import { UsageError } from "./command.js";
import { type Place, readPlace } from "./place.js";

/** What `moe-a2a run` was asked for. */
export interface RunOptions {
  /** On this machine. */
  readonly ranks: number;
  readonly nodes: number;
  readonly nodeRank: number;
  /** Undefined where a free port is to be found. */
  readonly address: Place | undefined;
  /** Undefined where one is to be made. */
  readonly secret: string | undefined;
  /** Milliseconds between SIGTERM and SIGKILL. */
  readonly graceMs: number;
  readonly prefix: boolean;
  /** Absolute; undefined where no trace is to be written. */
  readonly trace: string | undefined;
  readonly nodeArgs: readonly string[];
  /** Absolute. */
  readonly script: string;
  /** Of the script. */
  readonly args: readonly string[];
}

const OPTIONS = {
  ranks: { type: "string" },
  nodes: { type: "string" },
  "node-rank": { type: "string" },
  address: { type: "string" },
  grace: { type: "string" },
  "node-arg": { type: "string", multiple: true },
  "no-prefix": { type: "boolean" },
  trace: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

const DEFAULT_GRACE_MS = 5000;
const MAX_GRACE_MS = 2 ** 31 - 1;
const MIN_SECRET_BYTES = 16;

/**
 * Reads the command line. All that follows the script's name belongs to the script.
 *
 * @throws UsageError
 */
export function readRunArgs(args: readonly string[], env: NodeJS.ProcessEnv): RunOptions | "help" {
  const { own, script, rest } = split(args);
  const values = parse(own);
  if (values.help) return "help";
  if (values.ranks === undefined) throw new UsageError("--ranks is missing; give it the number of processes");
  const ranks = integer("--ranks", values.ranks, 1, LIMITS.epSize);
  const nodes = integer("--nodes", values.nodes ?? "1", 1, LIMITS.epSize);
  if (ranks * nodes > LIMITS.epSize) {
    throw new UsageError(
      `--ranks ${ranks} on --nodes ${nodes} are ${ranks * nodes} ranks; a group has at most ${LIMITS.epSize}`,
    );
  }
  const address = values.address === undefined ? undefined : readPlace(values.address);
  if (values.nodes === undefined && values["node-rank"] !== undefined) {
    throw new UsageError("--node-rank needs --nodes: how many nodes are there?");
  }
  if (nodes > 1) {
    if (values["node-rank"] === undefined)
      throw new UsageError("--nodes needs --node-rank: which node is this?");
    if (!address)
      throw new UsageError("--nodes needs --address HOST:PORT, a port of node 0 for all to meet at");
  }
  const nodeRank = integer("--node-rank", values["node-rank"] ?? "0", 0, nodes - 1);
  const secret = nodes > 1 ? sharedSecret(env) : undefined;
  const graceMs = integer("--grace", values.grace ?? String(DEFAULT_GRACE_MS), 0, MAX_GRACE_MS);
  if (script === undefined) throw new UsageError("no script is given; name it after the options");
  return {
    ranks,
    nodes,
    nodeRank,
    address,
    secret,
    graceMs,
    prefix: !values["no-prefix"],
    trace: values.trace === undefined ? undefined : resolve(values.trace),
    nodeArgs: values["node-arg"] ?? [],
    script: existing(script),
    args: rest,
  };
}

interface Split {
  readonly own: readonly string[];
  readonly script: string | undefined;
  readonly rest: readonly string[];
}

/** Cuts the command line at the script; what is wrong with the options is left for later. */
function split(args: readonly string[]): Split {
  const { tokens } = parseArgs({ args: [...args], options: OPTIONS, strict: false, tokens: true });
  const script = tokens.find(({ kind }) => kind === "positional");
  if (!script) return { own: args, script: undefined, rest: [] };
  return { own: args.slice(0, script.index), script: args[script.index], rest: args.slice(script.index + 1) };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function integer(flag: string, text: string, low: number, high: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  const range = low === high ? `${low}` : `an integer from ${low} to ${high}`;
  throw new UsageError(`${flag} is "${text}"; it must be ${range}`);
}

function sharedSecret({ MOE_A2A_SECRET: secret = "" }: NodeJS.ProcessEnv): string {
  const bytes = Buffer.byteLength(secret);
  if (bytes >= MIN_SECRET_BYTES) return secret;
  const problem = bytes === 0 ? "is not set" : `has ${bytes} bytes`;
  throw new UsageError(
    `MOE_A2A_SECRET ${problem} in the environment; with --nodes, set it to the same random text on every node, of at ` +
      `least ${MIN_SECRET_BYTES} bytes (such as: node -p "crypto.randomBytes(32).toString('base64url')")`,
  );
}

/** The script's absolute path, once it is known to be there: as many ranks would say so at length. */
function existing(script: string): string {
  const path = resolve(script);
  try {
    // Not just any file: Node also takes names without their extension, and folders.
    createRequire(path).resolve(path);
    return path;
  } catch {
    throw new UsageError(`there is no script ${path}`);
  }
}
