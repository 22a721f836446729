import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Combine, createLocalGroup, type Dispatch, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { type Spread, spread } from "../stats.js";
import { type Plan, timeAsync } from "./plan.js";

const HIDDEN = 8;
const TOP_K = 2;

export const idleConfig = (epSize: number) => ({
  epSize,
  numExperts: 2 * epSize,
  topK: TOP_K,
  maxTokensPerRank: 16,
  maxDispatchBytesPerToken: 1024,
  maxCombineBytesPerToken: 1024,
});

/** Arguments of a round in which nobody has a token. */
export const idleInput = {
  numLocalTokens: 0,
  tokenSelectedExperts: tensor("int32", [0, TOP_K]),
  payloads: [tensor("uint8", [0, 16])],
  runtimeMaxTokensPerRank: 0,
};

export const idleOutput = (epSize: number) => tensor("bfloat16", [epSize, 0, HIDDEN]);

/** Rounds in which nobody has a token, of ranks that live on this thread; what callers have to make is made once. */
export function idleRounds(ranks: readonly MoeAllToAll[]): (rounds: number) => Promise<void> {
  const output = idleOutput(ranks.length);
  const dispatches: Dispatch[] = [];
  const combines: Combine[] = [];
  return async (rounds) => {
    for (let i = 0; i < rounds; i++) {
      for (let r = 0; r < ranks.length; r++) dispatches[r] = ranks[r]!.dispatch(idleInput);
      for (let r = 0; r < ranks.length; r++) await dispatches[r]!.ready();
      for (let r = 0; r < ranks.length; r++) combines[r] = dispatches[r]!.combine(output);
      for (let r = 0; r < ranks.length; r++) await combines[r]!.ready();
    }
  };
}

export interface IdleFigures {
  /** Microseconds of a round of all ranks: of processors, collecting garbage included, and by the clock. */
  readonly cpu: Spread;
  readonly wall: Spread;
  /** Bytes that are left of a round once garbage is collected: nothing may grow. */
  readonly retainedBytesPerRound: number;
  /** Where the time of a round goes, in microseconds by the clock. */
  readonly parts: IdleParts;
}

/** What all ranks of a round spend in each of its calls, and what the engine takes for things that a round cannot do without. */
export interface IdleParts {
  readonly dispatch: number;
  readonly dispatchReady: number;
  readonly combine: number;
  readonly combineReady: number;
  /** Of those, awaiting as many promises that are resolved: two for each rank. */
  readonly awaits: number;
  /** Of those, reading the clock: once for each rank, since time limits count from a dispatch on. */
  readonly clock: number;
}

/** A number, not a time: on a busy machine the engine would else still compile while it is measured. */
const WARM_UP_ROUNDS = 60_000;
/** Samples for each of the plan: others keep the processors busy for a second or so at a time. */
const SAMPLES_EACH = 6;

/** Rounds over which a leak of one object per round would show next to what the engine itself keeps. */
const LEAK_ROUNDS = 50_000;

/** Measures rounds in which no rank of a local group has a token. */
export async function measureIdle(plan: Plan, epSize: number): Promise<IdleFigures> {
  const groups = createLocalGroup(epSize);
  const ranks = (await Promise.all(
    groups.map((group) => jsBackend.create(idleConfig(epSize), group)),
  )) as unknown as MoeAllToAll[];
  const play = idleRounds(ranks);
  // The engine takes its time to compile what runs often.
  await play(WARM_UP_ROUNDS);
  const [cpu, wall]: [number[], number[]] = [[], []];
  for (let s = 0; s < SAMPLES_EACH * plan.samples; s++) {
    const cost = await timeAsync(plan, play);
    cpu.push(cost.cpu);
    wall.push(cost.wall);
  }
  const before = usedBytes();
  await play(LEAK_ROUNDS);
  const retainedBytesPerRound = (usedBytes() - before) / LEAK_ROUNDS;
  const parts = await measureParts(plan, ranks);
  await Promise.all(ranks.map((a2a) => a2a.close()));
  return { cpu: spread(cpu), wall: spread(wall), retainedBytesPerRound, parts };
}

/** Takes a round apart. Each figure is the least of several: others on the machine only add to it. */
async function measureParts(plan: Plan, ranks: readonly MoeAllToAll[]): Promise<IdleParts> {
  const output = idleOutput(ranks.length);
  const dispatches: Dispatch[] = [];
  const combines: Combine[] = [];
  const resolved = Promise.resolve();
  const least = new Array<number>(6).fill(Number.POSITIVE_INFINITY);
  const rounds = 2000;
  for (let s = 0; s < 4 * plan.samples; s++) {
    const sums = [0, 0, 0, 0, 0, 0];
    let last = performance.now();
    const lap = (part: number): void => {
      const now = performance.now();
      sums[part]! += now - last;
      last = now;
    };
    for (let i = 0; i < rounds; i++) {
      for (let r = 0; r < ranks.length; r++) dispatches[r] = ranks[r]!.dispatch(idleInput);
      lap(0);
      for (let r = 0; r < ranks.length; r++) await dispatches[r]!.ready();
      lap(1);
      for (let r = 0; r < ranks.length; r++) combines[r] = dispatches[r]!.combine(output);
      lap(2);
      for (let r = 0; r < ranks.length; r++) await combines[r]!.ready();
      lap(3);
      for (let r = 0; r < 2 * ranks.length; r++) await resolved;
      lap(4);
      lap(5);
    }
    for (const [part, sum] of sums.entries()) least[part] = Math.min(least[part]!, (sum * 1000) / rounds);
  }
  // Each lap reads the clock once, which is none of the round's.
  const clock = least[5]!;
  const [dispatch, dispatchReady, combine, combineReady, awaits] = least.map((micros) => micros - clock);
  return {
    dispatch: dispatch!,
    dispatchReady: dispatchReady!,
    combine: combine!,
    combineReady: combineReady!,
    awaits: awaits!,
    clock: clock * ranks.length,
  };
}

/** What is in use once garbage is collected. */
function usedBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
