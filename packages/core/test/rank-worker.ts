import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { ThreadTicket } from "../src/index.js";

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: Record<string, unknown>;
}

/** A rank on a worker thread that takes commands; see `workers/group-rank.mjs`. */
export class RankWorker {
  readonly worker: Worker;
  #calls = 0;

  constructor(ticket: ThreadTicket) {
    this.worker = new Worker(new URL("./workers/group-rank.mjs", import.meta.url), { workerData: ticket });
    this.worker.on("error", () => {});
  }

  static async start(ticket: ThreadTicket): Promise<RankWorker> {
    const rank = new RankWorker(ticket);
    await once(rank.worker, "message");
    return rank;
  }

  /** Runs a command; rejects with the fields of the error that it threw. */
  call(command: string, args: object = {}): Promise<unknown> {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      const listen = (reply: Reply): void => {
        if (reply.id !== id) return;
        this.worker.off("message", listen);
        if (reply.error) reject(Object.assign(new Error(String(reply.error.message)), reply.error));
        else resolve(reply.result);
      };
      this.worker.on("message", listen);
      this.worker.postMessage({ id, command, ...args });
    });
  }
}
