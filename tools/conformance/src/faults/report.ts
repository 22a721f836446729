import type { GroupKind } from "../backends.js";
import { timeLimit } from "./play.js";
import type { Fault, Scenario } from "./scenario.js";

/** A scenario that was played, and what it came to. */
export interface Played {
  readonly n: number;
  readonly kind: GroupKind;
  readonly scenario: Scenario;
  readonly milliseconds: number;
  /** Of each rank that was told: how long it had waited in that phase. */
  readonly msToVerdict: readonly number[];
  readonly failure?: string;
}

const header = ["fault of one rank", "scenarios", "failed", "verdict after ms: median", "most", "time limit"];

function median(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** A Markdown table: by fault, how many scenarios, and how soon the others knew. */
export function table(played: readonly Played[], faults: readonly Fault[]): string {
  const rows = faults.flatMap((fault) => {
    const mine = played.filter((p) => p.scenario.fault === fault);
    if (mine.length === 0) return [];
    const times = mine.flatMap((p) => p.msToVerdict).sort((a, b) => a - b);
    const ms = (value: number | undefined) => (value === undefined ? "–" : value.toFixed(1));
    return [
      [
        fault,
        String(mine.length),
        String(mine.filter((p) => p.failure).length),
        times.length > 0 ? ms(median(times)) : "nobody is told",
        ms(times.at(-1)),
        String(timeLimit(fault)),
      ],
    ];
  });
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
