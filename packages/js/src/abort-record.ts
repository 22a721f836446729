import {
  ABORT_RECORD_BYTES,
  type ErrorCode,
  type ErrorDetails,
  type MissingKind,
  MoeA2AError,
  type Phase,
  type WorkspaceLayout,
} from "@moe-a2a/core";
import type { ControlWords, Window } from "./memory.js";

/** Words of an abort record; the message follows as UTF-8 from `text` on. */
const RECORD = {
  set: 0,
  code: 1,
  phase: 2,
  roundLow: 3,
  roundHigh: 4,
  missingLow: 5,
  missingHigh: 6,
  kind: 7,
  generation: 8,
  /** Per lane, the last phase that its writer had completed; two words. */
  completed: 9,
  textBytes: 11,
  text: 16,
} as const;

const TEXT_BYTES = ABORT_RECORD_BYTES - RECORD.text * 4;

const codes: readonly ErrorCode[] = [
  "ERR_MOE_A2A_ABORTED",
  "ERR_MOE_A2A_PEER_TIMEOUT",
  "ERR_MOE_A2A_MISMATCH",
  "ERR_MOE_A2A_STATE",
];
const phases: readonly Phase[] = ["dispatch", "combine"];
const kinds: readonly MissingKind[] = ["timeout", "closed", "lost"];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A peer's verdict, as found in this rank's window. */
export interface AbortRecord {
  readonly source: number;
  readonly code: ErrorCode;
  readonly error: MoeA2AError;
  /** Per lane, the last phase that the writer had completed; see {@link phaseNumber}. */
  readonly completed: readonly number[];
}

/** Numbers the phases of a lane: dispatch 2n, combine 2n + 1 of round n; 32 bits of it, compared so that it wraps. */
export function phaseNumber(round: number, phase: "dispatch" | "combine"): number {
  return (round * 2 + (phase === "combine" ? 1 : 0)) | 0;
}

function base(layout: WorkspaceLayout, source: number): number {
  return (layout.abortRecords + source * ABORT_RECORD_BYTES) / 4;
}

/** Writes this rank's verdict into a peer's window; the peer sees it whole or not at all. */
export function writeAbortRecord(
  target: Window,
  layout: WorkspaceLayout,
  control: ControlWords,
  source: number,
  verdict: {
    readonly error: MoeA2AError;
    readonly generation: number;
    readonly completed: readonly number[];
  },
): void {
  const { words, bytes } = target;
  const at = base(layout, source);
  const { error, generation, completed } = verdict;
  words[at + RECORD.code] = codes.indexOf(error.code);
  words[at + RECORD.phase] = phases.indexOf(error.phase ?? "dispatch");
  const round = error.round ?? 0;
  words[at + RECORD.roundLow] = round | 0;
  words[at + RECORD.roundHigh] = Math.floor(round / 2 ** 32);
  words[at + RECORD.missingLow] = rankMask(error.missingRanks ?? [], 0);
  words[at + RECORD.missingHigh] = rankMask(error.missingRanks ?? [], 32);
  words[at + RECORD.kind] = kinds.indexOf(error.kind ?? "timeout");
  words[at + RECORD.generation] = generation;
  for (const [lane, phase] of completed.entries()) words[at + RECORD.completed + lane] = phase;
  const text = encoder.encode(
    error.code === "ERR_MOE_A2A_ABORTED" ? reasonText(error.reason) : error.message,
  );
  const kept = text.subarray(0, TEXT_BYTES);
  bytes.set(kept, (at + RECORD.text) * 4);
  words[at + RECORD.textBytes] = kept.length;
  Atomics.store(words, at + RECORD.set, 1);
  Atomics.add(words, control.aborts, 1);
}

/** The verdict of the lowest-numbered peer that wrote one, or undefined. */
export function readAbortRecord(
  own: Window,
  layout: WorkspaceLayout,
  control: ControlWords,
  activeRanks: readonly number[],
  generation: number,
): AbortRecord | undefined {
  const { words } = own;
  if (Atomics.load(words, control.aborts) === 0) return undefined;
  for (const source of activeRanks) {
    const at = base(layout, source);
    if (Atomics.load(words, at + RECORD.set) === 0 || words[at + RECORD.generation] !== generation) continue;
    return decode(own, at, source);
  }
  return undefined;
}

/** Forgets all records: part of a reset, while nobody writes. */
export function clearAbortRecords(
  own: Window,
  layout: WorkspaceLayout,
  control: ControlWords,
  ranks: number,
): void {
  for (let source = 0; source < ranks; source++)
    Atomics.store(own.words, base(layout, source) + RECORD.set, 0);
  Atomics.store(own.words, control.aborts, 0);
}

function decode({ words, bytes }: Window, at: number, source: number): AbortRecord {
  const code = codes[words[at + RECORD.code]!] ?? "ERR_MOE_A2A_STATE";
  const start = (at + RECORD.text) * 4;
  // A copy, as decoders refuse shared memory.
  const text = decoder
    .decode(bytes.slice(start, start + words[at + RECORD.textBytes]!))
    .replace(/\uFFFD+$/, "…");
  const completed = [words[at + RECORD.completed]!, words[at + RECORD.completed + 1]!];
  const told = `${text} (as rank ${source} found)`;
  const round = words[at + RECORD.roundHigh]! * 2 ** 32 + (words[at + RECORD.roundLow]! >>> 0);
  const details = {
    ERR_MOE_A2A_ABORTED: { rank: source, reason: text },
    ERR_MOE_A2A_PEER_TIMEOUT: {
      phase: phases[words[at + RECORD.phase]!] ?? "dispatch",
      round,
      missingRanks: maskRanks(words[at + RECORD.missingLow]!, words[at + RECORD.missingHigh]!),
      kind: kinds[words[at + RECORD.kind]!] ?? "timeout",
    },
    ERR_MOE_A2A_MISMATCH: { field: "unknown", values: [] },
    ERR_MOE_A2A_STATE: { state: "failed" },
  } as unknown as ErrorDetails;
  const message = code === "ERR_MOE_A2A_ABORTED" ? abortMessage(source, text) : told;
  return { source, code, error: new MoeA2AError(code, message, details[code]), completed };
}

/** The message of an ABORTED error. */
export function abortMessage(rank: number, reason: string): string {
  return `rank ${rank} called abort()${reason ? `: ${reason}` : ""}; the round fails on all ranks. Call reset() on them to go on`;
}

/** A reason as text, for other ranks. */
export function reasonText(reason: unknown): string {
  if (reason === undefined) return "";
  if (typeof reason === "string") return reason;
  if (reason instanceof Error) return reason.message;
  try {
    return typeof reason === "object" ? (JSON.stringify(reason) ?? "") : String(reason);
  } catch {
    return "a reason that cannot be told as text";
  }
}

function rankMask(ranks: readonly number[], from: number): number {
  let mask = 0;
  for (const rank of ranks) if (rank >= from && rank < from + 32) mask |= 1 << (rank - from);
  return mask;
}

function maskRanks(low: number, high: number): number[] {
  return Array.from({ length: 64 }, (_, rank) => rank).filter(
    (rank) => (((rank < 32 ? low : high) >>> (rank & 31)) & 1) === 1,
  );
}
