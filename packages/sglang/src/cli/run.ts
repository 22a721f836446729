import { randomBytes } from "node:crypto";
import type { Command } from "./command.js";
import { findPlace } from "./place.js";
import { rankEnvironments } from "./rank-environments.js";
import { Ranks } from "./ranks.js";
import { readRunArgs } from "./run-options.js";

const HELP = `Starts one process per rank of a script, and looks after them until all have ended.

Usage: moe-a2a run --ranks N [options] script [arguments]

  --ranks N            processes to start here, 1…64
  --grace MS           from SIGTERM to SIGKILL, when ranks have to end (default 5000)
  --node-arg=ARG       an argument for Node, such as --node-arg=--enable-source-maps; may be repeated
  --trace FILE         every rank adds its dispatches and combines to a trace that ui.perfetto.dev shows
  --no-prefix          leaves what the ranks write as it is; otherwise lines start with "[rank] "
  --address HOST:PORT  where rank 0 listens, "[HOST]:PORT" for IPv6 (default: a free port on loopback)
  --help               this text

For ranks on several machines ("nodes"), give each the same command, with

  --nodes N            how many there are, each with as many ranks
  --node-rank I        which one this is, 0…N-1; its ranks start at I times --ranks
  --address HOST:PORT  a port of node 0 that the others can reach

and the same secret in the environment, as MOE_A2A_SECRET: random text of at least 16 bytes.

Each rank finds RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT and
MOE_A2A_SECRET in its environment, which is all that joinProcessGroup() needs. It has no standard input.

SIGINT, SIGTERM and SIGHUP are passed on to all ranks; a second SIGINT kills them. When a rank fails,
the others are ended. Once all have ended after SIGINT or SIGTERM, output that nobody reads is
waited for no longer than the grace period.

Exit codes: 0 all ranks succeeded; 2 wrong arguments; otherwise that of the rank that failed first,
which is 128 and the signal's number where a signal ended it.
`;

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export const run: Command = {
  summary: "starts one process per rank of a script",

  async main(args) {
    const options = readRunArgs(args, process.env);
    if (options === "help") {
      process.stdout.write(HELP);
      return 0;
    }
    const place = options.address ?? (await findPlace());
    const secret = options.secret ?? randomBytes(32).toString("base64url");
    const ranks = new Ranks(options);
    const forward = (signal: NodeJS.Signals): void => ranks.signal(signal);
    for (const signal of FORWARDED) process.on(signal, forward);
    try {
      const exitCode = await ranks.run(rankEnvironments(options, place, secret, process.env));
      // Pending writes would keep this process.
      if (ranks.leftOutput) process.exit(exitCode);
      return exitCode;
    } finally {
      for (const signal of FORWARDED) process.off(signal, forward);
    }
  },
};
