import type { Fault } from "./scenario.js";

/** Time limit where the fault is that somebody does not come in it, in milliseconds. */
export const SHORT_MS = 700;
/** Where a rank comes late on purpose, but in time. */
export const DELAY_MS = 250;
const MIDDLE_MS = 10_000;
/** Never reached: the others must be told at once. */
export const LONG_MS = 120_000;

const timeLimits: Partial<Record<Fault, number>> = {
  "never comes": SHORT_MS,
  "comes at the limit": SHORT_MS,
  "comes too late": SHORT_MS,
  "is stopped and wakes": SHORT_MS,
  "comes late, but in time": MIDDLE_MS,
};

/** The time limit of a scenario, in milliseconds. */
export function timeLimit(fault: Fault): number {
  return timeLimits[fault] ?? LONG_MS;
}
