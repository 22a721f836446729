import {
  type CheckedCombine,
  type CheckedDispatch,
  DISPATCH_HEADER_BYTES,
  DTYPES,
  disagreementError,
  type MoeA2AError,
} from "@moe-a2a/core";
import type { Lane } from "./lane.js";
import type { Window } from "./memory.js";
import { wireRound } from "./round-number.js";

/** Words of a dispatch header. Row bytes take eight words from `rowBytes` on. */
const DISPATCH = {
  generation: 0,
  round: 1,
  maxTokens: 2,
  payloadCount: 3,
  rowBytes: 4,
  statsLength: 12,
  count: 13,
} as const;

/** From one rank's header to the next. */
const DISPATCH_WORDS = DISPATCH_HEADER_BYTES / 4;

/** Words of a combine header. */
const COMBINE = { generation: 0, round: 1, hiddenSize: 2, dtype: 3 } as const;

/** What a rank says of its dispatch to the others, next to how many rows it sent to each. */
export interface DispatchNotice {
  readonly round: number;
  readonly generation: number;
  readonly checked: Pick<CheckedDispatch, "maxTokens" | "rowBytes" | "statsLength">;
  /** int32, as many as `statsLength`; undefined where they are there already. */
  readonly stats: Int32Array | undefined;
}

/** Writes what `source` believes about a round, and how many rows it sent there, into a peer's window. */
export function writeDispatchHeader(
  { words }: Window,
  lane: Lane,
  source: number,
  { round, generation, checked }: DispatchNotice,
  count: number,
): void {
  const { maxTokens, rowBytes, statsLength } = checked;
  const at = lane.dispatchHeader(round, source);
  words[at + DISPATCH.generation] = generation;
  words[at + DISPATCH.round] = wireRound(round);
  words[at + DISPATCH.maxTokens] = maxTokens;
  words[at + DISPATCH.payloadCount] = rowBytes.length;
  for (let p = 0; p < rowBytes.length; p++) words[at + DISPATCH.rowBytes + p] = rowBytes[p]!;
  words[at + DISPATCH.statsLength] = statsLength;
  words[at + DISPATCH.count] = count;
}

/** The same where all but round and count stands there from an earlier round. */
export function renewDispatchHeader(
  { words }: Window,
  lane: Lane,
  source: number,
  round: number,
  count: number,
): void {
  const at = lane.dispatchHeader(round, source);
  words[at + DISPATCH.round] = wireRound(round);
  words[at + DISPATCH.count] = count;
}

/** Rows that `source` sent to the window's rank. */
export function readCount({ words }: Window, lane: Lane, round: number, source: number): number {
  return words[lane.dispatchHeader(round, source) + DISPATCH.count]!;
}

/**
 * Copies how many rows each rank sent to the window's rank, 0 for those that are not active.
 *
 * @returns their sum
 */
export function takeCounts(
  { words }: Window,
  lane: Lane,
  round: number,
  isActive: Uint8Array,
  counts: Int32Array,
): number {
  const first = lane.dispatchHeader(round, 0) + DISPATCH.count;
  let total = 0;
  for (let source = 0; source < counts.length; source++) {
    const count = isActive[source] === 1 ? words[first + source * DISPATCH_WORDS]! : 0;
    counts[source] = count;
    total += count;
  }
  return total;
}

/** What a rank says of its combine. */
export interface CombineNotice {
  readonly round: number;
  readonly generation: number;
  readonly checked: Pick<CheckedCombine, "hiddenSize" | "dtype">;
}

export function writeCombineHeader(
  { words }: Window,
  lane: Lane,
  source: number,
  { round, generation, checked }: CombineNotice,
): void {
  const at = lane.combineHeader(source);
  words[at + COMBINE.generation] = generation;
  words[at + COMBINE.round] = wireRound(round);
  words[at + COMBINE.hiddenSize] = checked.hiddenSize;
  words[at + COMBINE.dtype] = DTYPES.indexOf(checked.dtype);
}

type Read = (words: Int32Array, at: number) => unknown;

/** The fields on which ranks have to agree, in the order in which a disagreement is reported. */
const dispatchFields: readonly (readonly [field: string, read: Read])[] = [
  ["generation", (words, at) => words[at + DISPATCH.generation]],
  ["round", (words, at) => words[at + DISPATCH.round]],
  ["runtimeMaxTokensPerRank", (words, at) => words[at + DISPATCH.maxTokens]],
  ["payloadCount", (words, at) => words[at + DISPATCH.payloadCount]],
  [
    "rowBytes",
    (words, at) =>
      Array.from(
        words.subarray(at + DISPATCH.rowBytes, at + DISPATCH.rowBytes + words[at + DISPATCH.payloadCount]!),
      ),
  ],
  ["expertStatsLength", (words, at) => words[at + DISPATCH.statsLength]],
];

const combineFields: readonly (readonly [field: string, read: Read])[] = [
  ["generation", (words, at) => words[at + COMBINE.generation]],
  ["round", (words, at) => words[at + COMBINE.round]],
  ["hiddenSize", (words, at) => words[at + COMBINE.hiddenSize]],
  ["dtype", (words, at) => DTYPES[words[at + COMBINE.dtype]!]],
];

function headerOf(phase: "dispatch" | "combine", lane: Lane, round: number, source: number): number {
  return phase === "dispatch" ? lane.dispatchHeader(round, source) : lane.combineHeader(source);
}

/** Whether all active ranks said of a dispatch what this one says; of row bytes only as far as there are payloads. */
export function isDispatchAgreed(
  { words }: Window,
  lane: Lane,
  round: number,
  generation: number,
  checked: DispatchNotice["checked"],
  activeRanks: readonly number[],
): boolean {
  const { maxTokens, rowBytes, statsLength } = checked;
  const payloads = rowBytes.length;
  const first = lane.dispatchHeader(round, 0);
  for (let i = 0; i < activeRanks.length; i++) {
    const at = first + activeRanks[i]! * DISPATCH_WORDS;
    if (
      words[at + DISPATCH.generation] !== generation ||
      words[at + DISPATCH.round] !== wireRound(round) ||
      words[at + DISPATCH.maxTokens] !== maxTokens ||
      words[at + DISPATCH.payloadCount] !== payloads ||
      words[at + DISPATCH.statsLength] !== statsLength
    )
      return false;
    for (let p = 0; p < payloads; p++) {
      if (words[at + DISPATCH.rowBytes + p] !== rowBytes[p]) return false;
    }
  }
  return true;
}

/** Whether all active ranks said of a combine what this one says. */
export function isCombineAgreed(
  { words }: Window,
  lane: Lane,
  round: number,
  generation: number,
  checked: CombineNotice["checked"],
  activeRanks: readonly number[],
): boolean {
  const dtype = DTYPES.indexOf(checked.dtype);
  for (let i = 0; i < activeRanks.length; i++) {
    const at = lane.combineHeader(activeRanks[i]!);
    if (
      words[at + COMBINE.generation] !== generation ||
      words[at + COMBINE.round] !== wireRound(round) ||
      words[at + COMBINE.hiddenSize] !== checked.hiddenSize ||
      words[at + COMBINE.dtype] !== dtype
    )
      return false;
  }
  return true;
}

/**
 * Names what active ranks said differently. Every rank sees every header, so all come to the same result.
 *
 * @returns a MISMATCH error that lists every rank's value
 */
export function disagreement(
  { words }: Window,
  phase: "dispatch" | "combine",
  lane: Lane,
  round: number,
  rank: number,
  activeRanks: readonly number[],
): MoeA2AError<"ERR_MOE_A2A_MISMATCH"> {
  const fields = phase === "dispatch" ? dispatchFields : combineFields;
  for (const [field, read] of fields) {
    const values: unknown[] = new Array(lane.ranks).fill(undefined);
    for (const source of activeRanks) values[source] = read(words, headerOf(phase, lane, round, source));
    const texts = activeRanks.map((source) => JSON.stringify(values[source]) ?? "undefined");
    if (texts.every((text) => text === texts[0])) continue;
    return disagreementError(rank, `${phase} of round ${round}`, field, values);
  }
  throw new Error("headers differ in no field that ranks agree on");
}
