import type { CheckedDispatch, CpuTensor } from "@moe-a2a/core";
import { copyBytes } from "../loops/copy.js";
import { bytesOf } from "./stores.js";

/** Rows on their way to one rank, as one run of bytes. */
export interface RowSource {
  readonly bytes: number;
  /** Writes the bytes from `from` on, as many as `target` holds. */
  fill(target: Uint8Array, from: number): void;
}

/** Statistics, then the rows of all payloads, payload after payload, each in the order of its slots. */
export class DispatchRows implements RowSource {
  readonly bytes: number;
  readonly #stats: Uint8Array;
  readonly #statsBytes: number;
  readonly #payloads: readonly { readonly data: Uint8Array; readonly rowBytes: number }[];
  readonly #numLocalTokens: number;
  /** The token in each slot. */
  readonly #tokens: Int32Array;

  constructor(checked: CheckedDispatch<CpuTensor>, tokens: Int32Array) {
    const filled = checked.payloads.map((payload, p) => ({ payload, rowBytes: checked.rowBytes[p]! }));
    // A tensor of no bytes needs no memory behind it.
    const payloads = tokens.length === 0 ? [] : filled.filter(({ rowBytes }) => rowBytes > 0);
    this.#payloads = payloads.map(({ payload, rowBytes }) => ({ data: bytesOf(payload), rowBytes }));
    this.#tokens = tokens;
    this.#numLocalTokens = checked.numLocalTokens;
    this.#stats = checked.expertStats ? bytesOf(checked.expertStats) : new Uint8Array(0);
    this.#statsBytes = this.#stats.length;
    this.bytes = this.#payloads.reduce(
      (sum, { rowBytes }) => sum + rowBytes * tokens.length,
      this.#statsBytes,
    );
  }

  fill(target: Uint8Array, from: number): void {
    const tokens = this.#tokens;
    // Arrays that a caller has transferred away or shrunk are too short; what is sent of them is never this process's memory.
    const isGone =
      this.#stats.length < this.#statsBytes ||
      this.#payloads.some(({ data, rowBytes }) => data.length < rowBytes * this.#numLocalTokens);
    if (isGone) {
      target.fill(0);
      return;
    }
    const stats = this.#stats.subarray(from, from + target.length);
    target.set(stats);
    let done = stats.length;
    let skip = Math.max(0, from - this.#statsBytes);
    for (const { data, rowBytes } of this.#payloads) {
      if (skip >= rowBytes * tokens.length) {
        skip -= rowBytes * tokens.length;
        continue;
      }
      let inRow = skip % rowBytes;
      for (let slot = Math.floor(skip / rowBytes); slot < tokens.length && done < target.length; slot++) {
        const bytes = Math.min(rowBytes - inRow, target.length - done);
        copyBytes(target, done, data, tokens[slot]! * rowBytes + inRow, bytes);
        done += bytes;
        inRow = 0;
      }
      if (done === target.length) return;
      skip = 0;
    }
  }
}

/** Bytes that lie side by side. */
export class Bytes implements RowSource {
  readonly bytes: number;
  readonly #data: Uint8Array;

  constructor(data: Uint8Array) {
    this.bytes = data.length;
    this.#data = data;
  }

  fill(target: Uint8Array, from: number): void {
    copyBytes(target, 0, this.#data, from, target.length);
  }
}
