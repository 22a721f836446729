import { Worker } from "node:worker_threads";
import type { ThreadTicket } from "@moe-a2a/core";
import type { RankResult } from "./rank.js";
import type { WorldRef } from "./world.js";

/** What a worker is asked to do. */
export interface Job {
  readonly backend: string;
  /** Name of the case, or the world to play. */
  readonly case: string | WorldRef;
  readonly seed: number;
  readonly ticket: ThreadTicket;
  /** Where the rank notes what it is about to do; see {@link readNote}. */
  readonly note: SharedArrayBuffer;
}

const NOTE_BYTES = 256;

export function createNote(): SharedArrayBuffer {
  return new SharedArrayBuffer(NOTE_BYTES);
}

/** Writes a note: its length, then its text. */
export function writeNote(note: SharedArrayBuffer, text: string): void {
  const buffer = Buffer.from(note);
  buffer.writeUInt16LE(buffer.write(text, 2), 0);
}

export function readNote(note: SharedArrayBuffer): string {
  const buffer = Buffer.from(note);
  return buffer.toString("utf8", 2, 2 + buffer.readUInt16LE(0));
}

/** A worker and the job that it is at. */
export interface RankThread {
  /** Resolves with the rank's result, also where the thread ended before it could say so. */
  start(job: Job): Promise<RankResult>;
  terminate(): Promise<void>;
}

class PooledThread implements RankThread {
  readonly #worker: Worker;
  #settle: ((result: RankResult) => void) | undefined;
  #rank = 0;
  #error: Error | undefined;
  ended = false;

  constructor() {
    this.#worker = new Worker(new URL("./worker.js", import.meta.url));
    // An idle pool keeps nothing alive; a job does, by whoever waits for it.
    this.#worker.unref();
    this.#worker.on("message", (message: RankResult | "terminate") => {
      if (message === "terminate") void this.#worker.terminate();
      else this.#done(message);
    });
    this.#worker.on("error", (error) => {
      this.#error = error as Error;
    });
    this.#worker.on("exit", (code) => {
      this.ended = true;
      const why = this.#error ? `: ${this.#error.stack ?? this.#error.message}` : ` (exit code ${code})`;
      this.#done({
        rank: this.#rank,
        failure: `rank ${this.#rank}: its thread ended${why}`,
        ended: true,
        time: performance.timeOrigin + performance.now(),
      });
    });
  }

  start(job: Job): Promise<RankResult> {
    this.#rank = job.ticket.rank;
    this.#worker.ref();
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#worker.postMessage(job);
    });
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #done(result: RankResult): void {
    this.#worker.unref();
    this.#settle?.(result);
    this.#settle = undefined;
  }
}

/** Worker threads, used again from case to case: starting one takes longer than most cases. */
export class Pool {
  #idle: PooledThread[] = [];

  take(count: number, fresh: boolean): PooledThread[] {
    const threads = fresh ? [] : this.#idle.splice(0, count);
    while (threads.length < count) threads.push(new PooledThread());
    return threads;
  }

  /** Takes threads back; those that ended are dropped. */
  giveBack(threads: readonly PooledThread[]): void {
    this.#idle.push(...threads.filter((thread) => !thread.ended));
  }

  async close(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((thread) => thread.terminate()));
  }
}
