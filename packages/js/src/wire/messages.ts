import {
  type CheckedCombine,
  type CheckedDispatch,
  type CombineDType,
  MalformedMessage,
  type ResolvedConfig,
} from "@moe-a2a/core";
import { VERDICT_BYTES } from "../abort-record.js";

/** What the ranks of an instance tell one another where they share no memory, by the number that it has on the wire. */
export const MESSAGE = {
  /** A dispatch: {@link DispatchHead}, then as many as fit of its statistics and rows. */
  dispatch: 1,
  /** A combine: {@link CombineHead}, then as many as fit of its results. */
  combine: 2,
  /** More rows of what was begun last in a lane: the lane in 4 bytes, and rows. */
  more: 3,
  /** A failure: generation, last completed phase of either lane, and a verdict as JSON. */
  failure: 4,
  /** The generation that the receiver's window has from now on, as a reset has left it out. */
  generation: 5,
  /** The sender has closed its instance. */
  closed: 6,
  /** Number of the next reset that the sender can join. */
  meeting: 7,
} as const;

/** The largest number of a reset that is told; nobody gets there, but a rank that lies might tell it. */
export const MAX_MEETING = 2 ** 31 - 1;

const WORD_BYTES = 4;

/** int32 words, little-endian whatever the machine. */
export function encodeWords(words: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(words.length * WORD_BYTES);
  for (let i = 0; i < words.length; i++) bytes.writeInt32LE(words[i]! | 0, i * WORD_BYTES);
  return bytes;
}

/** Reads words from the start of a message, each within bounds. */
export class WordReader {
  readonly #body: Buffer;
  #at = 0;

  constructor(body: Uint8Array) {
    this.#body = Buffer.from(body.buffer, body.byteOffset, body.length);
  }

  any(): number {
    if (this.#at + WORD_BYTES > this.#body.length) throw new MalformedMessage("a message that is cut off");
    const word = this.#body.readInt32LE(this.#at);
    this.#at += WORD_BYTES;
    return word;
  }

  upTo(limit: number): number {
    const word = this.any();
    if (word < 0 || word > limit) throw new MalformedMessage("a number out of bounds");
    return word;
  }

  /** What follows the words. */
  rest(): Buffer {
    return this.#body.subarray(this.#at);
  }
}

/** What a dispatch message says of a round. */
export interface DispatchHead {
  readonly lane: number;
  readonly generation: number;
  readonly round: number;
  readonly maxTokens: number;
  readonly rowBytes: readonly number[];
  readonly statsLength: number;
  /** Rows that follow for the receiver. */
  readonly count: number;
}

export function encodeDispatch(
  lane: number,
  generation: number,
  round: number,
  { maxTokens, rowBytes, statsLength }: Pick<CheckedDispatch, "maxTokens" | "rowBytes" | "statsLength">,
  count: number,
): Buffer {
  return encodeWords([lane, generation, round, maxTokens, statsLength, count, rowBytes.length, ...rowBytes]);
}

/** @throws MalformedMessage for what the config does not allow, so that no rank writes outside its regions */
export function readDispatch(reader: WordReader, config: ResolvedConfig, maxPayloads: number): DispatchHead {
  const lane = reader.upTo(config.roundsInFlight - 1);
  const generation = reader.any();
  const round = reader.any();
  const maxTokens = reader.upTo(config.maxTokensPerRank);
  const statsLength = reader.upTo(config.maxExpertStats);
  const count = reader.upTo(maxTokens);
  const payloads = reader.upTo(maxPayloads);
  const rowBytes: number[] = [];
  let left = config.maxDispatchBytesPerToken;
  for (let p = 0; p < payloads; p++) {
    rowBytes.push(reader.upTo(left));
    left -= rowBytes[p]!;
  }
  return { lane, generation, round, maxTokens, rowBytes, statsLength, count };
}

const COMBINE_DTYPES: readonly CombineDType[] = ["float32", "float16", "bfloat16"];

export interface CombineHead {
  readonly lane: number;
  readonly generation: number;
  readonly round: number;
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
  readonly rowBytes: number;
  /** Results that follow for the receiver. */
  readonly count: number;
}

export function encodeCombine(
  lane: number,
  generation: number,
  round: number,
  { hiddenSize, dtype }: Pick<CheckedCombine, "hiddenSize" | "dtype">,
  count: number,
): Buffer {
  return encodeWords([lane, generation, round, hiddenSize, COMBINE_DTYPES.indexOf(dtype), count]);
}

/** @throws MalformedMessage for what the config does not allow */
export function readCombine(reader: WordReader, config: ResolvedConfig): CombineHead {
  const lane = reader.upTo(config.roundsInFlight - 1);
  const generation = reader.any();
  const round = reader.any();
  const hiddenSize = reader.upTo(config.maxCombineBytesPerToken);
  const dtype = COMBINE_DTYPES[reader.upTo(COMBINE_DTYPES.length - 1)]!;
  const count = reader.upTo(config.maxTokensPerRank);
  const rowBytes = hiddenSize * (dtype === "float32" ? 4 : 2);
  if (rowBytes > config.maxCombineBytesPerToken) throw new MalformedMessage("rows that are too long");
  return { lane, generation, round, hiddenSize, dtype, rowBytes, count };
}

export function encodeFailure(
  generation: number,
  completed: readonly number[],
  verdict: Uint8Array,
): Uint8Array {
  return Buffer.concat([encodeWords([generation, completed[0] ?? 0, completed[1] ?? 0]), verdict]);
}

export function readFailure(reader: WordReader): {
  readonly generation: number;
  readonly completed: readonly number[];
  readonly verdict: Buffer;
} {
  const generation = reader.any();
  const completed = [reader.any(), reader.any()];
  const verdict = reader.rest();
  if (verdict.length > VERDICT_BYTES) throw new MalformedMessage("a verdict that is too long");
  return { generation, completed, verdict };
}
