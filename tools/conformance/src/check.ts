import { isDeepStrictEqual } from "node:util";
import {
  bytesPerElement,
  type CpuTensor,
  describe,
  type ErrorCode,
  type ErrorDetails,
  isMoeA2AError,
  type MoeA2AErrorOf,
  type TensorData,
} from "@moe-a2a/core";

/** A check of the suite found a difference; everything else that a case throws is the backend's. */
export class CheckFailure extends Error {
  override readonly name: string = "CheckFailure";
}

function show(value: unknown): string {
  return JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v)) ?? String(value);
}

export function check(condition: unknown, problem: string): asserts condition {
  if (!condition) throw new CheckFailure(problem);
}

export function same(what: string, actual: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(actual, expected)) {
    throw new CheckFailure(`${what}: expected ${show(expected)}, got ${show(actual)}`);
  }
}

function bytesOf(data: TensorData): Buffer {
  return Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}

const hex = (byte: number | undefined): string =>
  byte === undefined ? "nothing" : `0x${byte.toString(16).padStart(2, "0")}`;

/** Compares the bytes `[from, to)`; `place` names where a byte offset lies. */
function sameRange(
  what: string,
  actual: Buffer,
  expected: Buffer,
  [from, to]: readonly [number, number],
  place: (byte: number) => string,
): void {
  if (actual.subarray(from, to).equals(expected.subarray(from, to))) return;
  let i = from;
  while (actual[i] === expected[i]) i++;
  throw new CheckFailure(`${what} ${place(i)}: expected ${hex(expected[i])}, got ${hex(actual[i])}`);
}

/** Compares rows received: those of each sender, or with `padding` whole slots. */
export function sameRows(
  what: string,
  actual: TensorData,
  expected: CpuTensor,
  recvCounts: ArrayLike<number>,
  padding: boolean,
): void {
  const [ranks, slots, n] = expected.shape as readonly [number, number, number];
  const row = n * bytesPerElement(expected.dtype);
  const [a, e] = [bytesOf(actual), bytesOf(expected.data)];
  same(`${what}: bytes`, a.length, e.length);
  const place = (byte: number): string => {
    const index = Math.floor(byte / row);
    const [source, slot] = [Math.floor(index / slots), index % slots];
    const kind = slot < (recvCounts[source] as number) ? "" : " (padding)";
    return `slot [${source}, ${slot}]${kind} byte ${byte % row}`;
  };
  for (let source = 0; source < ranks; source++) {
    const from = source * slots * row;
    const to = padding ? from + slots * row : from + (recvCounts[source] as number) * row;
    sameRange(what, a, e, [from, to], place);
  }
}

/** Compares everything, byte for byte. */
export function sameBytes(what: string, actual: TensorData, expected: TensorData): void {
  const [a, e] = [bytesOf(actual), bytesOf(expected)];
  same(`${what}: bytes`, a.length, e.length);
  sameRange(what, a, e, [0, e.length], (byte) => `byte ${byte}`);
}

const nanAbove = { float32: 0x7f800000, float16: 0x7c00, bfloat16: 0x7f80 } as const;

/** Compares combined rows bit for bit, NaN sign and payload aside. */
export function sameOutput(what: string, actual: TensorData, expected: CpuTensor): void {
  const dtype = expected.dtype as keyof typeof nanAbove;
  const bits = (data: TensorData): Uint32Array | Uint16Array =>
    dtype === "float32" ? new Uint32Array(data.buffer, data.byteOffset, data.length) : (data as Uint16Array);
  same(`${what}: elements`, actual.length, expected.data.length);
  if (bytesOf(actual).equals(bytesOf(expected.data))) return;
  const [a, e] = [bits(actual), bits(expected.data)];
  const magnitude = dtype === "float32" ? 0x7fffffff : 0x7fff;
  const nan = (pattern: number): boolean => (pattern & magnitude) > nanAbove[dtype];
  const hidden = expected.shape[1] as number;
  for (let i = 0; i < e.length; i++) {
    const [x, y] = [a[i] as number, e[i] as number];
    if (x === y || (nan(x) && nan(y))) continue;
    throw new CheckFailure(
      `${what} token ${Math.floor(i / hidden)} element ${i % hidden} (${dtype}): ` +
        `expected bits 0x${y.toString(16)} (${expected.data[i]}), got 0x${x.toString(16)} (${actual[i]})`,
    );
  }
}

/** Checks that all elements are NaN. */
export function allNaN(what: string, data: TensorData, dtype: keyof typeof nanAbove): void {
  const bits = dtype === "float32" ? new Uint32Array(data.buffer, data.byteOffset, data.length) : data;
  const magnitude = dtype === "float32" ? 0x7fffffff : 0x7fff;
  bits.forEach((x: number | bigint, i: number) => {
    check(
      (Number(x) & magnitude) > nanAbove[dtype],
      `${what} element ${i}: expected NaN, got bits 0x${x.toString(16)}`,
    );
  });
}

/** What an error must be. */
export interface Expected<C extends ErrorCode> {
  readonly fields?: Partial<ErrorDetails[C]>;
  /** Each must occur in the message. */
  readonly says?: readonly (string | number | RegExp)[];
  /** Code of the cause. */
  readonly cause?: ErrorCode;
}

export function expectError<C extends ErrorCode>(
  what: string,
  error: unknown,
  code: C,
  { fields = {}, says = [], cause }: Expected<C> = {},
): MoeA2AErrorOf<C> {
  if (!isMoeA2AError(error, code)) {
    throw new CheckFailure(
      `${what}: expected ${code}, got ${error instanceof Error ? error.stack : describe(error)}`,
    );
  }
  for (const [name, value] of Object.entries(fields)) {
    same(`${what}: ${code}.${name}`, (error as unknown as Record<string, unknown>)[name], value);
  }
  for (const part of says) {
    const found =
      part instanceof RegExp
        ? part.test(error.message)
        : typeof part === "number"
          ? new RegExp(`(?<![\\d.])${part}(?![\\d.]*\\d)`).test(error.message)
          : error.message.includes(part);
    check(
      found,
      `${what}: the message should say ${part instanceof RegExp ? part : show(part)}: ${error.message}`,
    );
  }
  if (cause !== undefined) {
    check(isMoeA2AError(error.cause, cause), `${what}: expected a cause ${cause}, got ${show(error.cause)}`);
  }
  return error;
}

/** Checks that a call throws at once. */
export function throws<C extends ErrorCode>(
  what: string,
  call: () => unknown,
  code: C,
  expected?: Expected<C>,
): MoeA2AErrorOf<C> {
  let result: unknown;
  try {
    result = call();
  } catch (error) {
    return expectError(what, error, code, expected);
  }
  throw new CheckFailure(`${what}: expected ${code}, but the call returned ${describe(result)}`);
}

/** Checks that a promise rejects. */
export async function rejects<C extends ErrorCode>(
  what: string,
  promise: Promise<unknown>,
  code: C,
  expected?: Expected<C>,
): Promise<MoeA2AErrorOf<C>> {
  let result: unknown;
  try {
    result = await promise;
  } catch (error) {
    return expectError(what, error, code, expected);
  }
  throw new CheckFailure(`${what}: expected ${code}, but the promise resolved to ${describe(result)}`);
}

/** Checks that something fails with a verdict: the error itself, or STATE with that error as its cause. */
export async function fails<C extends ErrorCode>(
  what: string,
  call: Promise<unknown> | (() => unknown),
  code: C,
  expected?: Expected<C>,
): Promise<MoeA2AErrorOf<C>> {
  let result: unknown;
  try {
    result = await (typeof call === "function" ? call() : call);
  } catch (error) {
    const verdict =
      isMoeA2AError(error, "ERR_MOE_A2A_STATE") && error.cause !== undefined ? error.cause : error;
    return expectError(what, verdict, code, expected);
  }
  throw new CheckFailure(`${what}: expected ${code}, but it came to ${describe(result)}`);
}
