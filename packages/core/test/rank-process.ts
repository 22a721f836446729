import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: Record<string, unknown>;
}

const script = fileURLToPath(new URL("./workers/process-rank.mjs", import.meta.url));

/** A rank in a process of its own that takes commands; see `workers/process-rank.mjs`. */
export class RankProcess {
  readonly child: ChildProcess;
  #calls = 0;

  private constructor(env: NodeJS.ProcessEnv) {
    this.child = fork(script, { env: { PATH: process.env.PATH, ...env }, execArgv: [] });
  }

  static async start(env: NodeJS.ProcessEnv = {}): Promise<RankProcess> {
    const rank = new RankProcess(env);
    await once(rank.child, "message");
    return rank;
  }

  /** Runs a command; rejects with the fields of the error that it threw. */
  call(command: string, args: object = {}): Promise<unknown> {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error(`the process ended during ${command}`));
      const listen = (reply: Reply): void => {
        if (reply.id !== id) return;
        this.child.off("message", listen).off("exit", ended);
        if (reply.error) reject(Object.assign(new Error(String(reply.error.message)), reply.error));
        else resolve(reply.result);
      };
      this.child.on("message", listen).once("exit", ended);
      this.child.send({ id, command, ...args });
    });
  }
}
