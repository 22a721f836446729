import { Worker } from "node:worker_threads";
import type { RankResult } from "./rank.js";
import { endedResult, type Job, type RankHost } from "./rank-host.js";

const NOTE_BYTES = 256;

export function createNote(): SharedArrayBuffer {
  return new SharedArrayBuffer(NOTE_BYTES);
}

/** Writes a note: its length, then its text. */
export function writeNote(note: SharedArrayBuffer, text: string): void {
  const buffer = Buffer.from(note);
  buffer.writeUInt16LE(buffer.write(text, 2), 0);
}

function readNote(note: SharedArrayBuffer): string {
  const buffer = Buffer.from(note);
  return buffer.toString("utf8", 2, 2 + buffer.readUInt16LE(0));
}

/** A worker thread that runs ranks. */
export class RankThread implements RankHost {
  readonly #worker: Worker;
  #settle: ((result: RankResult) => void) | undefined;
  #job: Job | undefined;
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
      this.#done(endedResult(this.#job?.rank ?? 0, "thread", why));
    });
  }

  start(job: Job): Promise<RankResult> {
    this.#job = job;
    this.#worker.ref();
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#worker.postMessage(job);
    });
  }

  where(): string {
    const place = this.#job?.place;
    return place?.kind === "threads" ? readNote(place.note) : "";
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
