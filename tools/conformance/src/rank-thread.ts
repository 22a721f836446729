import { Worker } from "node:worker_threads";
import type { RankResult } from "./rank.js";
import { endedResult, type Job, type RankHost } from "./rank-host.js";

const NOTE_BYTES = 256;
/** The word of a note that is 1 while its thread is stopped. */
const PAUSED = NOTE_BYTES / 4 - 1;
/** What a thread tells besides how its rank ended. */
export type Told = "terminate" | { readonly resume: number } | { readonly result: RankResult };

export function createNote(): SharedArrayBuffer {
  return new SharedArrayBuffer(NOTE_BYTES);
}

/** Writes a note: its length, then its text. */
export function writeNote(note: SharedArrayBuffer, text: string): void {
  const buffer = Buffer.from(note);
  buffer.writeUInt16LE(buffer.write(text, 2, PAUSED * 4 - 2), 0);
}

/** Blocks the thread until {@link RankThread.resume}. */
export function pauseThread(note: SharedArrayBuffer): void {
  const words = new Int32Array(note);
  Atomics.store(words, PAUSED, 1);
  Atomics.wait(words, PAUSED, 1);
}

function readNote(note: SharedArrayBuffer): string {
  const buffer = Buffer.from(note);
  return buffer.toString("utf8", 2, 2 + buffer.readUInt16LE(0));
}

/** A worker thread that runs ranks. */
export class RankThread implements RankHost {
  readonly #worker: Worker;
  #settle: ((result: RankResult) => void) | undefined;
  #resume: (rank: number) => void = () => {};
  #job: Job | undefined;
  #error: Error | undefined;
  ended = false;

  constructor() {
    this.#worker = new Worker(new URL("./worker.js", import.meta.url));
    // An idle pool keeps nothing alive; a job does, by whoever waits for it.
    this.#worker.unref();
    this.#worker.on("message", (told: Told) => {
      if (told === "terminate") void this.#worker.terminate();
      else if ("resume" in told) this.#resume(told.resume);
      else this.#done(told.result);
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

  start(job: Job, resume: (rank: number) => void): Promise<RankResult> {
    this.#job = job;
    this.#resume = resume;
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

  resume(): void {
    const place = this.#job?.place;
    if (place?.kind !== "threads") return;
    const words = new Int32Array(place.note);
    Atomics.store(words, PAUSED, 0);
    Atomics.notify(words, PAUSED);
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
