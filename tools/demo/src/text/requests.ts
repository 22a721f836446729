import { decode, encode } from "gpt-tokenizer/encoding/cl100k_base";
import { Random } from "../random.js";
import { Corpus } from "./corpus.js";

/** One request to the served model. */
export interface Request {
  readonly id: number;
  /** The rank that runs it. */
  readonly rank: number;
  /** The step before which nobody knows of it. */
  readonly arrivalStep: number;
  /** The chapter that the prompt comes from. */
  readonly title: string;
  /** Tokens of the prompt. */
  readonly prompt: Int32Array;
  /** Tokens of the answer, at least 1. */
  readonly answerTokens: number;
  /** The tokens that an answer is made of, ascending. */
  readonly vocabulary: Int32Array;
}

/** Bounds of what {@link makeRequests} draws, in tokens and steps; both ends belong to the range. */
export const DRAWN = {
  promptTokens: [16, 400],
  answerTokens: [2, 24],
  arrivalGap: [1, 9],
  /** Share of the requests that arrive together with the one before. */
  burst: 0.35,
  /** Tokens that most prompts share, which every answer may use. */
  commonTokens: 48,
} as const;

type Draft = Omit<Request, "vocabulary">;

/** Requests in order of arrival: passages of the corpus, dealt to the ranks in turn. */
export function makeRequests(count: number, ranks: number, seed: number, corpus = new Corpus()): Request[] {
  const random = new Random(seed, 1);
  const drafts: Draft[] = [];
  let arrivalStep = 0;
  for (let id = 0; id < count; id++) {
    if (id > 0 && !random.chance(DRAWN.burst)) arrivalStep += random.integer(...DRAWN.arrivalGap);
    const chapter = corpus.chapter(random.integer(0, corpus.length - 1));
    const start = random.integer(0, chapter.sentences.length - 1);
    const [shortest, longest] = DRAWN.promptTokens;
    const length = random.integer(shortest, random.chance(0.5) ? longest : longest >> 2);
    drafts.push({
      id,
      rank: id % ranks,
      arrivalStep,
      title: chapter.title,
      prompt: passage(chapter.sentences, start, length, longest),
      answerTokens: random.integer(...DRAWN.answerTokens),
    });
  }
  const common = commonTokens(drafts);
  return drafts.map((draft) => ({ ...draft, vocabulary: vocabulary(draft.prompt, common) }));
}

/** Whole sentences from `start` on until there are about `wanted` tokens; cut within a sentence only at `limit` tokens. */
export function passage(
  sentences: readonly string[],
  start: number,
  wanted: number,
  limit: number,
): Int32Array {
  let text = "";
  let tokens = 0;
  for (let i = start; i < sentences.length && tokens < wanted; i++) {
    text += sentences[i];
    tokens += encode(sentences[i]!).length;
  }
  return Int32Array.from(encode(text.trim()).slice(0, limit));
}

/** The text of an answer on one line. */
export function answerText(tokens: Iterable<number>): string {
  return decode([...tokens])
    .replace(/[\p{C}\s]+/gu, " ")
    .trim();
}

function commonTokens(drafts: readonly Draft[]): number[] {
  const prompts = new Map<number, number>();
  for (const { prompt } of drafts) {
    for (const token of new Set(prompt)) prompts.set(token, (prompts.get(token) ?? 0) + 1);
  }
  return [...prompts]
    .sort(([a, countA], [b, countB]) => countB - countA || a - b)
    .slice(0, DRAWN.commonTokens)
    .map(([token]) => token);
}

function vocabulary(prompt: Int32Array, common: readonly number[]): Int32Array {
  return Int32Array.from(new Set([...prompt, ...common])).sort();
}
