import type { CombineDType } from "@moe-a2a/core";
import { SUM_WASM } from "./sum-wasm.js";

/** What this file needs of WebAssembly; the types of Node have no more than its name. */
interface Engine {
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
}

/** The functions of wasm/sum.wat. Addresses are bytes of its memory. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  sum_bfloat16(rows: number, stride: number, count: number, n: number, sums: number): void;
  sum_float16(rows: number, stride: number, count: number, n: number, sums: number): void;
  sum_float32(rows: number, stride: number, count: number, n: number, sums: number): void;
  round_bfloat16(sums: number, n: number): void;
  round_float16(sums: number, n: number): void;
}

type Row = Float32Array | Uint16Array;

/** Elements that one step of the code takes. */
const STEP = 8;

/** Sums by SIMD code, in memory of its own: 256 KiB for each thread that uses it, whatever it works on. */
export class SimdSum {
  readonly #exports: Exports;
  readonly #halves: Uint16Array;
  readonly #floats: Float32Array;
  readonly #bytes: number;

  private constructor(exports: Exports) {
    this.#exports = exports;
    const { buffer } = exports.memory;
    this.#halves = new Uint16Array(buffer);
    this.#floats = new Float32Array(buffer);
    this.#bytes = buffer.byteLength;
  }

  /** Undefined where the engine has no WebAssembly SIMD, or no code may be made at run time. */
  static create(): SimdSum | undefined {
    try {
      const { Module, Instance } = (globalThis as unknown as { readonly WebAssembly: Engine }).WebAssembly;
      const module = new Module(Buffer.from(SUM_WASM, "base64"));
      return new SimdSum(new Instance(module).exports as Exports);
    } catch {
      return undefined;
    }
  }

  /** As `sumRows` of sum.ts, with `count` ≥ 1. */
  sum(
    rows: readonly Row[],
    firsts: ArrayLike<number>,
    count: number,
    n: number,
    dtype: CombineDType,
    out: Row,
    at: number,
    outDType: CombineDType,
  ): void {
    const elementBytes = dtype === "float32" ? 4 : 2;
    // Rows longer than fit side by side go piece by piece.
    const room = Math.floor(this.#bytes / (count * elementBytes + 4)) - 2 * STEP;
    const piece = Math.min(n, room - (room % STEP));
    for (let start = 0; start < n; start += piece) {
      const length = Math.min(piece, n - start);
      this.#piece(rows, firsts, count, start, length, dtype, out, at + start, outDType);
    }
  }

  #piece(
    rows: readonly Row[],
    firsts: ArrayLike<number>,
    count: number,
    start: number,
    n: number,
    dtype: CombineDType,
    out: Row,
    at: number,
    outDType: CombineDType,
  ): void {
    const isFloat32 = dtype === "float32";
    const elements = Math.ceil(n / STEP) * STEP;
    const staging = isFloat32 ? this.#floats : this.#halves;
    for (let i = 0; i < count; i++) {
      const first = firsts[i]! + start;
      (staging as Uint16Array).set(rows[i]!.subarray(first, first + n) as Uint16Array, i * elements);
    }
    const stride = elements * (isFloat32 ? 4 : 2);
    const sums = count * stride;
    const code = this.#exports;
    if (isFloat32) code.sum_float32(0, stride, count, n, sums);
    else if (dtype === "bfloat16") code.sum_bfloat16(0, stride, count, n, sums);
    else code.sum_float16(0, stride, count, n, sums);
    if (outDType === "float32") {
      (out as Float32Array).set(this.#floats.subarray(sums / 4, sums / 4 + n), at);
      return;
    }
    if (outDType === "bfloat16") code.round_bfloat16(sums, n);
    else code.round_float16(sums, n);
    (out as Uint16Array).set(this.#halves.subarray(sums / 2, sums / 2 + n), at);
  }
}
