import { TRACE_VARIABLE } from "../observe/chrome-trace.js";
import type { Place } from "./place.js";
import type { RunOptions } from "./run-options.js";

/** The environment of each rank of this machine, as `joinProcessGroup()` reads it; the names are torchrun's. */
export function rankEnvironments(
  { ranks, nodes, nodeRank, trace }: Pick<RunOptions, "ranks" | "nodes" | "nodeRank" | "trace">,
  { host, port }: Place,
  secret: string,
  base: NodeJS.ProcessEnv,
): NodeJS.ProcessEnv[] {
  return Array.from({ length: ranks }, (_, local) => ({
    ...base,
    RANK: String(nodeRank * ranks + local),
    LOCAL_RANK: String(local),
    WORLD_SIZE: String(nodes * ranks),
    LOCAL_WORLD_SIZE: String(ranks),
    MASTER_ADDR: host,
    MASTER_PORT: String(port),
    MOE_A2A_SECRET: secret,
    ...(trace === undefined ? {} : { [TRACE_VARIABLE]: trace }),
  }));
}
