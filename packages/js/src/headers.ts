import {
  type CheckedCombine,
  type CheckedDispatch,
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

/** Rows that `source` sent to the window's rank. */
export function readCount({ words }: Window, lane: Lane, round: number, source: number): number {
  return words[lane.dispatchHeader(round, source) + DISPATCH.count]!;
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

/** Whether two headers say the same; of row bytes only as far as there are payloads. */
function sameDispatch(words: Int32Array, a: number, b: number): boolean {
  const payloads = words[a + DISPATCH.payloadCount]!;
  if (
    words[a + DISPATCH.generation] !== words[b + DISPATCH.generation] ||
    words[a + DISPATCH.round] !== words[b + DISPATCH.round] ||
    words[a + DISPATCH.maxTokens] !== words[b + DISPATCH.maxTokens] ||
    payloads !== words[b + DISPATCH.payloadCount] ||
    words[a + DISPATCH.statsLength] !== words[b + DISPATCH.statsLength]
  )
    return false;
  for (let p = 0; p < payloads; p++) {
    if (words[a + DISPATCH.rowBytes + p] !== words[b + DISPATCH.rowBytes + p]) return false;
  }
  return true;
}

function sameCombine(words: Int32Array, a: number, b: number): boolean {
  return (
    words[a + COMBINE.generation] === words[b + COMBINE.generation] &&
    words[a + COMBINE.round] === words[b + COMBINE.round] &&
    words[a + COMBINE.hiddenSize] === words[b + COMBINE.hiddenSize] &&
    words[a + COMBINE.dtype] === words[b + COMBINE.dtype]
  );
}

function headerOf(phase: "dispatch" | "combine", lane: Lane, round: number, source: number): number {
  return phase === "dispatch" ? lane.dispatchHeader(round, source) : lane.combineHeader(source);
}

/** Whether all active ranks said about a phase what this one, `rank`, said. */
export function isAgreed(
  { words }: Window,
  phase: "dispatch" | "combine",
  lane: Lane,
  round: number,
  rank: number,
  activeRanks: readonly number[],
): boolean {
  const isDispatch = phase === "dispatch";
  const mine = headerOf(phase, lane, round, rank);
  for (let i = 0; i < activeRanks.length; i++) {
    const theirs = headerOf(phase, lane, round, activeRanks[i]!);
    const isSame = isDispatch ? sameDispatch(words, mine, theirs) : sameCombine(words, mine, theirs);
    if (!isSame) return false;
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
