import type { GroupKind } from "../backends.js";
import { timeLimit } from "./limits.js";
import { FAULTS, type Fault, type Scenario } from "./scenario.js";

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

/** What came of a fault in one kind of group. */
export interface FaultFigures {
  readonly fault: Fault;
  readonly timeLimitMs: number;
  readonly scenarios: number;
  readonly failed: number;
  /** Those in which anybody was told. */
  readonly told: number;
  /** Of the times until a rank was told, in milliseconds; left out where nobody was told. */
  readonly medianMs?: number;
  readonly mostMs?: number;
}

/** Figures by fault; faults that were not played are left out. */
export function figures(played: readonly Played[]): FaultFigures[] {
  return FAULTS.flatMap((fault) => {
    const mine = played.filter((p) => p.scenario.fault === fault);
    if (mine.length === 0) return [];
    const all = mine.flatMap((p) => p.msToVerdict).sort((a, b) => a - b);
    const times = all.length === 0 ? {} : { medianMs: all[Math.floor(all.length / 2)]!, mostMs: all.at(-1)! };
    const failed = mine.filter((p) => p.failure).length;
    const tellings = mine.filter((p) => p.msToVerdict.length > 0).length;
    return [
      {
        fault,
        timeLimitMs: timeLimit(mine[0]!.scenario),
        scenarios: mine.length,
        failed,
        told: tellings,
        ...times,
      },
    ];
  });
}

/** How many scenarios, and how soon the other ranks knew: median and most. */
function cell(found: FaultFigures | undefined): string {
  if (!found) return "";
  const count = `${found.scenarios}${found.failed ? `, ${found.failed} failed` : ""}`;
  if (found.medianMs === undefined) return `${count}: nobody is told`;
  return `${count}: ${found.medianMs.toFixed(1)} / ${found.mostMs!.toFixed(1)}`;
}

/** A Markdown table: faults by kinds of group. */
export function table(played: readonly Played[], kinds: readonly GroupKind[]): string {
  const header = ["fault of one rank", "time limit, ms", ...kinds];
  const byKind = kinds.map((kind) => figures(played.filter((p) => p.kind === kind)));
  const limitOf = (fault: Fault): string =>
    String(byKind.flat().find((found) => found.fault === fault)?.timeLimitMs);
  const rows = FAULTS.flatMap((fault) => {
    const cells = byKind.map((list) => cell(list.find((found) => found.fault === fault)));
    return cells.some(Boolean) ? [[fault, limitOf(fault), ...cells]] : [];
  });
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
