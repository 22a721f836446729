import { parseArgs } from "node:util";

/** Which fault a run makes on purpose. */
export type Fault = "combine" | "worker";

export interface Options {
  readonly ranks: number;
  /** Whether each rank is a process of its own, not a worker thread. */
  readonly processes: boolean;
  readonly requests: number;
  readonly seed: number;
  readonly backend: "auto" | "js" | "cuda";
  readonly layers: number;
  readonly experts: number;
  readonly topK: number;
  readonly fault: Fault | undefined;
}

export type ParsedArgs =
  | { readonly kind: "run"; readonly options: Options }
  | { readonly kind: "help" }
  | { readonly kind: "error"; readonly message: string };

const DEFAULT_EXPERTS = 16;

export const HELP = `Serves requests made from a book on a mixture-of-experts model whose experts are spread over ranks, and checks
every MoE layer bit for bit against the same layer computed on one rank.

Usage: npm start -- [options]

  --ranks <1…64>         worker threads, each with its own requests and experts (default 4)
  --processes            each rank is a process of its own, not a worker thread
  --requests <1…10000>   requests to serve (default 32)
  --seed <0…2147483647>  of weights, prompts, arrivals and answer lengths (default 1)
  --backend <name>       auto, js or cuda (default auto)
  --layers <1…64>        layers of the model (default 4)
  --experts <ranks…512>  experts per layer (default ${DEFAULT_EXPERTS}, or as many as ranks if those are more)
  --top-k <1…32>         experts per token (default 2)
  --inject-fault <what>  makes the run fail: "combine" flips one bit of one combined row, "worker" stops a rank
  --help                 this text

Exit codes: 0 all layers agree; 1 a mismatch or an error; 2 wrong arguments.
`;

/** Reads the command line. */
export function readArgs(args: readonly string[]): ParsedArgs {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ranks: { type: "string" },
        processes: { type: "boolean", default: false },
        requests: { type: "string" },
        seed: { type: "string" },
        backend: { type: "string" },
        layers: { type: "string" },
        experts: { type: "string" },
        "top-k": { type: "string" },
        "inject-fault": { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) return { kind: "help" };
    const ranks = integer("--ranks", values.ranks, 4, 1, 64);
    const experts = integer("--experts", values.experts, Math.max(DEFAULT_EXPERTS, ranks), ranks, 512);
    return {
      kind: "run",
      options: {
        ranks,
        processes: values.processes,
        requests: integer("--requests", values.requests, 32, 1, 10_000),
        seed: integer("--seed", values.seed, 1, 0, 2 ** 31 - 1),
        backend: oneOf("--backend", values.backend ?? "auto", ["auto", "js", "cuda"]),
        layers: integer("--layers", values.layers, 4, 1, 64),
        experts,
        topK: integer("--top-k", values["top-k"], Math.min(2, experts), 1, Math.min(32, experts)),
        fault:
          values["inject-fault"] === undefined
            ? undefined
            : oneOf("--inject-fault", values["inject-fault"], ["combine", "worker"]),
      },
    };
  } catch (error) {
    return { kind: "error", message: (error as Error).message };
  }
}

function integer(
  flag: string,
  text: string | undefined,
  fallback: number,
  low: number,
  high: number,
): number {
  if (text === undefined) return fallback;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  throw new RangeError(`${flag} is "${text}"; it must be an integer from ${low} to ${high}`);
}

function oneOf<const V extends string>(flag: string, text: string, values: readonly V[]): V {
  if (values.includes(text as V)) return text as V;
  throw new RangeError(`${flag} is "${text}"; it must be one of ${values.join(", ")}`);
}
