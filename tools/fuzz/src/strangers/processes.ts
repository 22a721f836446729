import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { SECRET } from "./secret.js";

const script = fileURLToPath(new URL("./strangers/rank.js", import.meta.url));

/** A rank in a process of its own; see `rank.ts`. */
export class RankProcess {
  readonly joined: Promise<unknown>;
  /** Rounds played, once it has ended well. */
  readonly rounds: Promise<number>;
  readonly #child: ChildProcess;

  constructor(rank: number, size: number, path: string) {
    const child = fork(script, [rank, size, `unix:${path}`].map(String), {
      env: { ...process.env, MOE_A2A_SECRET: SECRET },
      execArgv: [],
    });
    this.#child = child;
    let rounds = 0;
    this.joined = once(child, "message");
    this.joined.catch(() => {});
    child.on("message", (message) => {
      if (typeof message === "number") rounds = message;
    });
    this.rounds = once(child, "exit").then(([code, signal]) => {
      if (code !== 0) throw new Error(`rank ${rank} ended with ${signal ?? `exit code ${code}`}`);
      return rounds;
    });
    this.rounds.catch(() => {});
  }

  /** Has the ranks stop after a round; of rank 0 only. */
  stop(): void {
    this.#child.send("stop");
  }
}
