import {
  ABORT_RECORD_BYTES,
  abortMessage,
  fromVerdict,
  type MoeA2AError,
  readVerdict,
  shortReason,
  toVerdict,
  type Verdict,
  type WorkspaceLayout,
} from "@moe-a2a/core";
import type { ControlWords, Window } from "./memory.js";

/** Words of an abort record; the verdict follows as JSON in UTF-8 from `verdict` on. */
const RECORD = {
  set: 0,
  generation: 1,
  /** Per lane, the last phase that its writer had completed; two words. */
  completed: 2,
  verdictBytes: 4,
  verdict: 8,
} as const;

/** The most bytes of a verdict in a record. */
export const VERDICT_BYTES = ABORT_RECORD_BYTES - RECORD.verdict * 4;

/** Messages too long for a record are cut, in characters. */
const MESSAGE_LENGTH = 500;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A peer's verdict, as found in this rank's window. */
export interface AbortRecord {
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

/** A failure as a rank tells it to its peers. */
export interface AbortVerdict {
  readonly error: MoeA2AError;
  readonly generation: number;
  readonly completed: readonly number[];
}

/** Writes the verdict of rank `source` into a window, whose owner sees it whole or not at all. */
export function storeAbortRecord(
  { words, bytes }: Window,
  layout: WorkspaceLayout,
  control: ControlWords,
  source: number,
  record: {
    /** As {@link encodeVerdict} makes it. */
    readonly verdict: Uint8Array;
    readonly generation: number;
    readonly completed: readonly number[];
  },
): void {
  const at = base(layout, source);
  words[at + RECORD.generation] = record.generation;
  for (const [lane, phase] of record.completed.entries()) words[at + RECORD.completed + lane] = phase;
  bytes.set(record.verdict, (at + RECORD.verdict) * 4);
  words[at + RECORD.verdictBytes] = record.verdict.length;
  Atomics.store(words, at + RECORD.set, 1);
  Atomics.add(words, control.aborts, 1);
}

/** The verdict of the lowest-numbered peer that wrote one, or undefined. */
export function readAbortRecord(
  window: Window,
  layout: WorkspaceLayout,
  control: ControlWords,
  activeRanks: readonly number[],
  generation: number,
): AbortRecord | undefined {
  if (window.load(control.aborts) === 0) return undefined;
  const { words, bytes } = window;
  for (const source of activeRanks) {
    const at = base(layout, source);
    if (Atomics.load(words, at + RECORD.set) === 0 || words[at + RECORD.generation] !== generation) continue;
    const start = (at + RECORD.verdict) * 4;
    // A copy, as decoders refuse shared memory.
    const text = decoder.decode(bytes.slice(start, start + words[at + RECORD.verdictBytes]!));
    const completed = [words[at + RECORD.completed]!, words[at + RECORD.completed + 1]!];
    return { error: decodeVerdict(text, source), completed };
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

/** An error as JSON that fits into a record: of a list of values too long for it, the message has to do. */
export function encodeVerdict(error: MoeA2AError): Uint8Array {
  const { code, message, details } = toVerdict(error);
  const told = code === "ERR_MOE_A2A_ABORTED" ? abortVerdict(error) : { code, message, details };
  const whole = encoder.encode(JSON.stringify(told));
  if (whole.length <= VERDICT_BYTES) return whole;
  const short = { ...told, message: `${message.slice(0, MESSAGE_LENGTH)}…` };
  const cut = encoder.encode(JSON.stringify(short));
  if (cut.length <= VERDICT_BYTES) return cut;
  return encoder.encode(JSON.stringify({ ...short, details: { ...details, values: [] } }));
}

/** @throws SyntaxError or TypeError for what {@link encodeVerdict} did not make */
export function decodeVerdict(text: string, source: number): MoeA2AError {
  const verdict = readVerdict(JSON.parse(text));
  if (!verdict) throw new TypeError("no verdict");
  return fromVerdict(verdict, source);
}

/** A reason travels as text; none at all stays undefined. */
function abortVerdict({ rank = 0, reason }: MoeA2AError): Verdict {
  const text = shortReason(reason);
  const details = { rank, reason: reason === undefined ? undefined : text };
  return { code: "ERR_MOE_A2A_ABORTED", message: abortMessage(rank, text), details };
}
