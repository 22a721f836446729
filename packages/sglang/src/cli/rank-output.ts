import type { Readable, Writable } from "node:stream";
import { PrefixedLines } from "./prefixed-lines.js";

const IDLE_MS = 1000;
/** What a rank has left in a pipe is read in far less time. */
const MAX_TURNS = 5;

/** Passes on what a rank writes, by prefixed lines, no faster than it is taken. */
export class RankOutput {
  readonly #source: Readable;
  readonly #target: Writable;
  readonly #closed: Promise<void>;
  #active = false;

  constructor(source: Readable, target: Writable, prefix: string) {
    this.#source = source;
    this.#target = target;
    const lines = new PrefixedLines(prefix);
    source.on("data", (piece: Buffer) => this.#write(lines.push(piece)));
    source.on("error", () => {});
    this.#closed = new Promise((resolve) => {
      source.once("close", () => {
        this.#write(lines.end());
        resolve();
      });
    });
    // The rank learns that nobody reads any more in the same way as if it wrote there itself.
    target.on("error", () => source.destroy());
  }

  /**
   * The rank is gone. Settles when all that is left was passed on, without waiting for other processes that may hold
   * the rank's end.
   */
  async finish(): Promise<void> {
    this.#active = true;
    let turns = 0;
    const timer = setInterval(() => {
      if (!this.#source.isPaused() && (!this.#active || ++turns === MAX_TURNS)) this.#source.destroy();
      this.#active = false;
    }, IDLE_MS);
    await this.#closed;
    clearInterval(timer);
  }

  #write(bytes: Buffer): void {
    this.#active = true;
    if (bytes.length === 0 || this.#target.write(bytes)) return;
    this.#source.pause();
    this.#target.once("drain", () => this.#source.resume());
  }
}
