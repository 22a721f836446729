import {
  type CheckedCombine,
  type CheckedDispatch,
  COMBINE_HEADER_BYTES,
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

/** Words of a combine header. */
const COMBINE = { generation: 0, round: 1, hiddenSize: 2, dtype: 3 } as const;

/** Which copy of double-buffered regions a round uses: a peer one phase ahead writes the other. */
export function bufferOf(round: number): number {
  return wireRound(round) & 1;
}

function dispatchHeader(lane: Lane, round: number, source: number): number {
  return (lane.at.dispatchHeaders + (bufferOf(round) * lane.ranks + source) * DISPATCH_HEADER_BYTES) / 4;
}

function combineHeader(lane: Lane, source: number): number {
  return (lane.at.combineHeaders + source * COMBINE_HEADER_BYTES) / 4;
}

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
  const at = dispatchHeader(lane, round, source);
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
  return words[dispatchHeader(lane, round, source) + DISPATCH.count]!;
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
  const at = combineHeader(lane, source);
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

/** Words that have to be equal; those of row bytes only as far as there are payloads. */
function sameDispatch(words: Int32Array, a: number, b: number): boolean {
  for (let w = 0; w <= DISPATCH.payloadCount; w++) if (words[a + w] !== words[b + w]) return false;
  for (let p = 0; p < words[a + DISPATCH.payloadCount]!; p++) {
    if (words[a + DISPATCH.rowBytes + p] !== words[b + DISPATCH.rowBytes + p]) return false;
  }
  return words[a + DISPATCH.statsLength] === words[b + DISPATCH.statsLength];
}

function sameCombine(words: Int32Array, a: number, b: number): boolean {
  for (let w = 0; w <= COMBINE.dtype; w++) if (words[a + w] !== words[b + w]) return false;
  return true;
}

function headerOf(phase: "dispatch" | "combine", lane: Lane, round: number, source: number): number {
  return phase === "dispatch" ? dispatchHeader(lane, round, source) : combineHeader(lane, source);
}

/** Where a phase stands: which lane and round, on which rank, among which others. */
export interface PhasePlace {
  readonly lane: Lane;
  readonly round: number;
  readonly rank: number;
  readonly activeRanks: readonly number[];
}

/** Whether all active ranks said the same about a phase. */
export function isAgreed(
  { words }: Window,
  phase: "dispatch" | "combine",
  { lane, round, rank, activeRanks }: PhasePlace,
): boolean {
  const mine = headerOf(phase, lane, round, rank);
  for (let i = 0; i < activeRanks.length; i++) {
    const theirs = headerOf(phase, lane, round, activeRanks[i]!);
    if (!(phase === "dispatch" ? sameDispatch(words, mine, theirs) : sameCombine(words, mine, theirs)))
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
  { lane, round, rank, activeRanks }: PhasePlace,
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
