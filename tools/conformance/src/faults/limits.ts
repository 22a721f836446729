import type { Fault, Scenario } from "./scenario.js";

/** Time limit where the fault is that somebody does not come in it, in milliseconds; longer where others keep ranks waiting. */
export const SHORT_MS = 700;
/** Where a rank comes late on purpose, but in time. */
export const DELAY_MS = 250;
const MIDDLE_MS = 10_000;
/** Never reached: the others must be told at once. */
export const LONG_MS = 120_000;

const MISSED: readonly Fault[] = [
  "never comes",
  "comes at the limit",
  "comes too late",
  "is stopped and wakes",
];

/** The time limit of a scenario, in milliseconds. */
export function timeLimit({ fault, shortMs }: Pick<Scenario, "fault" | "shortMs">): number {
  if (MISSED.includes(fault)) return shortMs;
  return fault === "comes late, but in time" ? MIDDLE_MS : LONG_MS;
}
