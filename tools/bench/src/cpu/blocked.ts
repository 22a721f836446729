import type { Group } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { type Spread, spread } from "../stats.js";
import { idleConfig, idleInput, idleOutput } from "./idle.js";
import type { Plan } from "./plan.js";

/** Measures idle rounds of ranks that block their threads, and two bare barriers of the same threads. */
export interface BlockedWork {
  readonly kind: "blocked";
  /** Words for the barriers: arrivals and generation. */
  readonly words: SharedArrayBuffer;
}

export interface BlockedFigures {
  /** Microseconds of a round, and of two barriers. */
  readonly round: Spread;
  readonly barriers: Spread;
  /** Of samples that were taken one after the other. */
  readonly ratio: Spread;
}

const SPINS = 200;

/** What a round cannot do without: everybody tells that it is there, and waits for the others. */
function barrier(words: Int32Array, ranks: number): void {
  const generation = Atomics.load(words, 1);
  if (Atomics.add(words, 0, 1) === ranks - 1) {
    Atomics.store(words, 0, 0);
    Atomics.add(words, 1, 1);
    Atomics.notify(words, 1);
    return;
  }
  for (let spin = 0; spin < SPINS; spin++) if (Atomics.load(words, 1) !== generation) return;
  while (Atomics.load(words, 1) === generation) Atomics.wait(words, 1, generation);
}

export async function blockedRounds(
  group: Group,
  plan: Plan,
  { words }: BlockedWork,
): Promise<BlockedFigures> {
  const ranks = group.size;
  const a2a = await jsBackend.create(idleConfig(ranks), group);
  const output = idleOutput(ranks);
  const shared = new Int32Array(words);
  const round = (): void => {
    const dispatch = a2a.dispatch(idleInput);
    dispatch.readySync();
    dispatch.combine(output).readySync();
  };
  const barriers = (): void => {
    barrier(shared, ranks);
    barrier(shared, ranks);
  };
  // All ranks have to make as many: a number, not a time.
  const rounds = 500;
  const time = (run: () => void): number => {
    const start = performance.now();
    for (let i = 0; i < rounds; i++) run();
    return ((performance.now() - start) / rounds) * 1000;
  };
  const [roundSamples, barrierSamples, ratios]: [number[], number[], number[]] = [[], [], []];
  for (let s = -2; s < 3 * plan.samples; s++) {
    await group.exchange("rounds", new Uint8Array());
    const a = time(round);
    await group.exchange("barriers", new Uint8Array());
    const b = time(barriers);
    if (s < 0) continue;
    roundSamples.push(a);
    barrierSamples.push(b);
    ratios.push(a / b);
  }
  await a2a.close();
  return { round: spread(roundSamples), barriers: spread(barrierSamples), ratio: spread(ratios) };
}
