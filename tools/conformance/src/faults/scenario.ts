import type { GroupKind } from "../backends.js";
import { Random } from "../random.js";

/** What a rank does wrong, or what befalls it. */
export const FAULTS = [
  "never comes",
  "comes late, but in time",
  "comes at the limit",
  "comes too late",
  "is stopped and wakes",
  "is killed",
  "is killed and starts again",
  "exits",
  "closes its instance",
  "closes its group",
  "aborts",
  "disagrees",
  "is created with another config",
  "resets with other ranks",
  "sends a bad id",
] as const;
export type Fault = (typeof FAULTS)[number];

/** Where in a round it happens. */
export const POINTS = [
  "before its dispatch",
  "once it has dispatched",
  "once its dispatch is ready",
  "once it has combined",
  "once its combine is ready",
] as const;

/** On what a rank disagrees, before its dispatch or once that is ready. */
export const DISPATCH_FIELDS = [
  "runtimeMaxTokensPerRank",
  "payloadCount",
  "rowBytes",
  "expertStatsLength",
] as const;
export const COMBINE_FIELDS = ["hiddenSize", "dtype"] as const;
export type Field = (typeof DISPATCH_FIELDS)[number] | (typeof COMBINE_FIELDS)[number];

/** One fault in one world. Plain data, so that it travels and prints. */
export interface Scenario {
  readonly seed: number;
  readonly ranks: number;
  readonly lanes: 1 | 2;
  readonly fault: Fault;
  /** The rank that has the fault. */
  readonly victim: number;
  /** Index of {@link POINTS}. */
  readonly point: number;
  /** Of a rank that disagrees. */
  readonly field: Field;
  /** Whether a rank that was given up wakes after the others have started again without it. */
  readonly wakesLate: boolean;
  /** Of a rank that comes at the limit: how far from it, in milliseconds. */
  readonly offLimit: number;
  /** The time limit where the fault is that the rank does not come in it, in milliseconds. */
  readonly shortMs: number;
}

/** A scenario to play, in place of the name of a case. */
export interface ScenarioRef {
  readonly scenario: Scenario;
}

/** A thread or process of its own is needed to be killed or stopped. */
const NEEDS_HOST: readonly Fault[] = [
  "is stopped and wakes",
  "is killed",
  "is killed and starts again",
  "exits",
];

export function faultsOf(kind: GroupKind): readonly Fault[] {
  return kind === "local" ? FAULTS.filter((fault) => !NEEDS_HOST.includes(fault)) : FAULTS;
}

function pointOf(fault: Fault, random: Random): number {
  // Arguments are seen by the call that they are passed to.
  if (fault === "sends a bad id") return 0;
  if (fault === "disagrees") return random.pick([0, 2]);
  // Before and after all rounds.
  if (fault === "is created with another config") return 0;
  if (fault === "resets with other ranks") return POINTS.length - 1;
  return random.int(0, POINTS.length - 1);
}

/** The n-th scenario of a seed: faults come in turn, everything else is random. */
export function makeScenario(
  seed: number,
  n: number,
  kind: GroupKind,
  { maxRanks, shortMs }: { readonly maxRanks: number; readonly shortMs: number },
): Scenario {
  const random = new Random("scenario", seed, n);
  const faults = faultsOf(kind);
  const fault = faults[n % faults.length]!;
  // Of two, one that names others would name itself alone, and meet nobody.
  const fewest = fault === "resets with other ranks" ? Math.min(3, maxRanks) : 2;
  const ranks = random.int(fewest, Math.min(6, maxRanks));
  const point = pointOf(fault, random);
  return {
    seed: random.int(0, 2 ** 30),
    ranks,
    lanes: random.pick([1, 2]),
    fault,
    victim: random.int(0, ranks - 1),
    point,
    field: random.pick(point === 0 ? DISPATCH_FIELDS : COMBINE_FIELDS),
    wakesLate: random.oneIn(2),
    offLimit: random.pick([-50, -20, -5, -1, 0, 1, 5, 20, 50]),
    shortMs,
  };
}

/** A scenario in words. */
export function nameScenario(scenario: Scenario): string {
  const { ranks, lanes, fault, victim, point, field, wakesLate, offLimit } = scenario;
  const what =
    fault === "disagrees"
      ? `${fault} on ${field}`
      : fault === "comes at the limit"
        ? `${fault} ${offLimit < 0 ? "" : "+"}${offLimit} ms`
        : fault;
  const wakes =
    fault === "is stopped and wakes" || fault === "comes too late"
      ? `, ${wakesLate ? "after" : "before"} the others' reset`
      : "";
  return `rank ${victim} of ${ranks} ${what} ${POINTS[point]}${wakes}, ${lanes} lane${lanes === 1 ? "" : "s"}`;
}
