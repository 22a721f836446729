import { createLogUpdate } from "log-update";
import type { Request } from "../text/requests.js";
import { answerLine, clip, fittingRanks, type Paint, paintZero, rankCells, tokenCells } from "./format.js";
import type { View } from "./view.js";

const FRAME_MS = 40;
const SHOWN_STEPS = 12;
const SHOWN_ANSWERS = 3;

/** What a frame of the live view shows. */
export interface Frame {
  readonly ranks: number;
  readonly steps: number;
  readonly done: number;
  readonly tokens: number;
  readonly zeros: number;
  /** The last steps, oldest first. */
  readonly recent: readonly { readonly step: number; readonly tokensByRank: readonly number[] }[];
  readonly answers: readonly string[];
}

/** The frame's text. */
export function renderFrame(frame: Frame, columns: number, paint: Paint): string {
  const { ranks, steps, done, tokens, zeros, recent, answers } = frame;
  const shown = fittingRanks(ranks, columns);
  const width = 24;
  const filled = Math.round((width * done) / Math.max(1, steps));
  const bar = "█".repeat(filled) + "░".repeat(width - filled);
  return [
    `  step${rankCells(shown)}${shown < ranks ? "…" : ""}`,
    ...recent.map(
      ({ step, tokensByRank }) =>
        `${String(step + 1).padStart(6)}${tokenCells(tokensByRank.slice(0, shown), paint)}`,
    ),
    ...answers.map((line) => clip(line, columns - 1)),
    `${bar} ${done}/${steps} steps, ${tokens} tokens, ${zeros} zero rank-steps`,
  ].join("\n");
}

/** The last steps and answers and a progress bar, redrawn in place. */
export class LiveView implements View {
  readonly #out: NodeJS.WriteStream;
  readonly #update: ReturnType<typeof createLogUpdate>;
  readonly #paint: Paint;
  readonly #ranks: number;
  readonly #steps: number;
  readonly #recent: { step: number; tokensByRank: readonly number[] }[] = [];
  readonly #answers: string[] = [];
  #done = 0;
  #tokens = 0;
  #zeros = 0;
  #drawn = 0;

  constructor(out: NodeJS.WriteStream, ranks: number, steps: number) {
    this.#out = out;
    this.#update = createLogUpdate(out);
    // hasColors() honours NO_COLOR.
    this.#paint = out.hasColors() ? paintZero : (text) => text;
    this.#ranks = ranks;
    this.#steps = steps;
  }

  header(lines: readonly string[]): void {
    this.#out.write(`${lines.join("\n")}\n`);
  }

  step(step: number, tokensByRank: readonly number[]): void {
    this.#done = step + 1;
    for (const n of tokensByRank) this.#tokens += n;
    this.#zeros += tokensByRank.filter((n) => n === 0).length;
    this.#recent.push({ step, tokensByRank });
    if (this.#recent.length > SHOWN_STEPS) this.#recent.shift();
    if (performance.now() - this.#drawn >= FRAME_MS) this.#draw();
  }

  answer({ id, title }: Request, text: string): void {
    this.#answers.push(answerLine(id, title, text, 200));
    if (this.#answers.length > SHOWN_ANSWERS) this.#answers.shift();
  }

  close(): void {
    if (this.#done > 0) this.#draw();
    this.#update.done();
  }

  #draw(): void {
    this.#drawn = performance.now();
    const frame = {
      ranks: this.#ranks,
      steps: this.#steps,
      done: this.#done,
      tokens: this.#tokens,
      zeros: this.#zeros,
      recent: this.#recent,
      answers: this.#answers,
    };
    this.#update(renderFrame(frame, this.#out.columns, this.#paint));
  }
}
