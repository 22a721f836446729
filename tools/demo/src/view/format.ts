import { styleText } from "node:util";

/** Adds colour, or leaves a text as it is. */
export type Paint = (text: string) => string;

/** How a rank without tokens is painted on a terminal with colours. */
export const paintZero: Paint = (text) => styleText(["bold", "yellow"], text);

const CELL = 6;

/** One cell per rank: its tokens, a zero in brackets so that it stands out without colour too. */
export function tokenCells(tokensByRank: readonly number[], paint: Paint): string {
  return tokensByRank
    .map((n) => (n === 0 ? " ".repeat(CELL - 3) + paint("[0]") : `${n} `.padStart(CELL)))
    .join("");
}

/** The heads of the cells of {@link tokenCells}. */
export function rankCells(ranks: number): string {
  return Array.from({ length: ranks }, (_, rank) => `r${rank} `.padStart(CELL)).join("");
}

/** How many of the ranks have room on a line of the live view, whose first cell is the step's number. */
export function fittingRanks(ranks: number, columns: number): number {
  return Math.max(1, Math.min(ranks, Math.floor(columns / CELL) - 2));
}

/** `text` in at most `length` characters. */
export function clip(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, Math.max(0, length - 1)).join("")}…`;
}

/** One line about an answer. */
export function answerLine(id: number, title: string, text: string, length: number): string {
  return clip(`#${id} ${title} → ${text}`, length);
}
