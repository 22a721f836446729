import type { GroupKind } from "../backends.js";
import { timeLimit } from "./limits.js";
import { FAULTS, type Scenario } from "./scenario.js";

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

/** How many scenarios, and how soon the other ranks knew: median and most. */
function cell(played: readonly Played[]): string {
  if (played.length === 0) return "";
  const failed = played.filter((p) => p.failure).length;
  const count = `${played.length}${failed ? `, ${failed} failed` : ""}`;
  const times = played.flatMap((p) => p.msToVerdict).sort((a, b) => a - b);
  if (times.length === 0) return `${count}: nobody is told`;
  const median = times[Math.floor(times.length / 2)]!;
  return `${count}: ${median.toFixed(1)} / ${times.at(-1)!.toFixed(1)}`;
}

/** A Markdown table: faults by kinds of group. */
export function table(played: readonly Played[], kinds: readonly GroupKind[]): string {
  const header = ["fault of one rank", "time limit, ms", ...kinds];
  const rows = FAULTS.flatMap((fault) => {
    const mine = played.filter((p) => p.scenario.fault === fault);
    if (mine.length === 0) return [];
    return [
      [fault, String(timeLimit(fault)), ...kinds.map((kind) => cell(mine.filter((p) => p.kind === kind)))],
    ];
  });
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
