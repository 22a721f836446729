import type { Request } from "../text/requests.js";
import { answerLine, rankCells, tokenCells } from "./format.js";
import type { View } from "./view.js";

const MOST_STEP_LINES = 88;
const SHOWN_ANSWERS = 4;
const LINE_LENGTH = 110;

/** One line per step, or per few steps where there are many. */
export class PlainView implements View {
  readonly #out: { write(text: string): unknown };
  readonly #ranks: number;
  readonly #steps: number;
  readonly #interval: number;
  readonly #answers: string[] = [];
  #zeros = 0;

  constructor(out: { write(text: string): unknown }, ranks: number, steps: number) {
    this.#out = out;
    this.#ranks = ranks;
    this.#steps = steps;
    this.#interval = Math.ceil(steps / MOST_STEP_LINES);
  }

  header(lines: readonly string[]): void {
    for (const line of lines) this.#print(line);
    const every = this.#interval > 1 ? `, every ${this.#interval} steps` : "";
    this.#print(`tokens by rank${every}; [0] is a rank that takes part with none`);
    this.#print(`      step${rankCells(this.#ranks)}  zero rank-steps so far`);
  }

  step(step: number, tokensByRank: readonly number[]): void {
    this.#zeros += tokensByRank.filter((n) => n === 0).length;
    const done = step + 1;
    if (done % this.#interval !== 0 && done !== this.#steps) return;
    const progress = `${done}/${this.#steps}`.padStart(10);
    this.#print(`${progress}${tokenCells(tokensByRank, (zero) => zero)}  ${this.#zeros}`);
  }

  answer({ id, title }: Request, text: string): void {
    if (this.#answers.length < SHOWN_ANSWERS) this.#answers.push(answerLine(id, title, text, LINE_LENGTH));
  }

  close(): void {
    for (const line of this.#answers) this.#print(line);
  }

  #print(line: string): void {
    this.#out.write(`${line}\n`);
  }
}
