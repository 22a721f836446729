import { isMoeA2AError, type MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { setUp } from "../cases/common.js";
import { CheckFailure, check } from "../check.js";
import type { Flight } from "../flight.js";
import { Random } from "../random.js";
import type { RoundSpec } from "../round.js";
import { createDifferently, resetDifferently, startAgain } from "./collectives.js";
import { commit, type Place, TOKENS } from "./commit.js";
import { expectedVerdict, expectGivenUp, expectVerdict, type Verdict } from "./expected.js";
import { LONG_MS, timeLimit } from "./limits.js";
import { type Fault, nameScenario, type Scenario } from "./scenario.js";

/** Rounds in which the fault must have come to light: a rank that goes after one is missed in the next. */
const ROUNDS = 2;

/** Faults after which the rank cannot go on in its group. */
const LEAVES: readonly Fault[] = [
  "is killed",
  "is killed and starts again",
  "exits",
  "closes its instance",
  "closes its group",
];
const DIES: readonly Fault[] = ["is killed", "is killed and starts again", "exits"];
/** Faults of which no rank has to wait for the end. */
const TOLD_AT_ONCE: readonly Fault[] = ["aborts", "disagrees", "sends a bad id"];

/** What a rank does at a point of a round. */
type AtPoint = (point: number, flights: readonly Flight[]) => Promise<void>;

/** One rank of a scenario. */
class Player {
  readonly #context: Context;
  readonly #scenario: Scenario;
  readonly #round: Place["round"];
  readonly #a2a: MoeAllToAll;
  readonly #place: Place;
  #flights: readonly Flight[] = [];
  #waitsSince = 0;

  constructor(
    context: Context,
    scenario: Scenario,
    round: (counts: readonly number[], over?: Partial<RoundSpec>) => RoundSpec,
    a2a: MoeAllToAll,
  ) {
    this.#context = context;
    this.#scenario = scenario;
    this.#a2a = a2a;
    this.#round = (key, over) => {
      const random = new Random("counts", scenario.seed, key);
      return round(
        Array.from({ length: scenario.ranks }, () => (random.oneIn(3) ? 0 : random.int(1, TOKENS))),
        { stats: 2, ...over },
      );
    };
    this.#place = { context, scenario, a2a, round: this.#round };
  }

  async play(): Promise<void> {
    const { victim, fault } = this.#scenario;
    await this.#exact("before");
    // Who is late is late from here on.
    await this.#context.barrier();
    const verdict = expectedVerdict(this.#scenario, this.#context.target.traits.callsSeeMemory);
    let failed = verdict !== undefined;
    if (fault === "is created with another config") await this.#rounds("after the fault", async () => {});
    else if (!verdict) {
      await (this.#context.rank === victim ? this.#misbehave() : this.#rounds("fault", this.#watchWaits()));
    } else if (fault === "comes at the limit") failed = await this.#comeAtLimit(verdict);
    else if (fault === "resets with other ranks")
      await resetDifferently(this.#context, this.#scenario, this.#a2a);
    else if (this.#context.rank === victim) await this.#beVictim();
    else await this.#survive();
    if (!LEAVES.includes(fault)) {
      await this.#context.barrier();
      this.#context.at("reset with all");
      if (failed) await this.#a2a.reset({ activeRanks: this.#all, timeoutMs: LONG_MS });
      await this.#exact("after");
    }
  }

  get #all(): readonly number[] {
    return Array.from({ length: this.#scenario.ranks }, (_, rank) => rank);
  }

  get #others(): readonly number[] {
    return this.#all.filter((rank) => rank !== this.#scenario.victim);
  }

  /** Rounds that must come out exactly. */
  async #exact(name: string, active?: readonly number[]): Promise<void> {
    for (let turn = 0; turn < 2; turn++) {
      const key = `${name}/${turn}`;
      this.#context.at(key);
      const made = this.#context.round(key, this.#round(key, active && { active }));
      await this.#context.play(this.#a2a, made);
    }
  }

  /** The rounds of the fault, with what this rank does at each point. */
  async #rounds(name: string, atPoint: AtPoint): Promise<void> {
    const { lanes } = this.#scenario;
    for (let turn = 0; turn < ROUNDS; turn++) {
      const flights: Flight[] = [];
      this.#flights = flights;
      const at = async (point: number): Promise<void> => {
        this.#context.at(`${name}, round ${turn}, point ${point}`);
        // Only in the first round.
        if (turn === 0) await atPoint(point, flights);
        this.#waitsSince = performance.now();
      };
      await at(0);
      for (let lane = 0; lane < lanes; lane++) {
        const key = `fault/${turn}/${lane}`;
        const made = this.#context.round(key, this.#round(key));
        flights.push(await this.#context.launch(this.#a2a, made, { out: true }));
      }
      await at(1);
      for (const flight of flights) await flight.arrive();
      await at(2);
      for (const flight of flights) await flight.offer();
      await at(3);
      for (const flight of flights) await flight.finish();
      await at(4);
    }
  }

  /** The ranks that did nothing wrong: told in time who did, and nothing wrong is handed out. */
  async #survive(): Promise<void> {
    const context = this.#context;
    const { victim, fault, wakesLate } = this.#scenario;
    const verdict = expectedVerdict(this.#scenario, context.target.traits.callsSeeMemory)!;
    const failed = await this.#rounds("fault", async () => {}).then(
      () => undefined,
      (error: unknown) => ({ error, after: performance.now() - this.#waitsSince }),
    );
    if (!failed) throw new CheckFailure("all rounds succeeded, although a rank was missing or wrong");
    if (failed.error instanceof CheckFailure) throw failed.error;
    expectVerdict("the round", failed.error, verdict, victim);
    context.measure("msToVerdict", failed.after);
    for (const flight of this.#flights) await this.#expectOver(flight, verdict);
    if (TOLD_AT_ONCE.includes(fault)) return;

    const isFirst = context.rank === this.#others[0];
    if (LEAVES.includes(fault) || wakesLate) {
      context.at("reset without the rank");
      await this.#a2a.reset({ activeRanks: this.#others, timeoutMs: LONG_MS });
      await this.#exact("without", this.#others);
    }
    if (fault === "is killed and starts again") {
      if (isFirst) await startAgain(context, this.#scenario);
      await this.#exact("all the same", this.#others);
    }
    if (LEAVES.includes(fault)) return;
    if (fault === "is stopped and wakes") {
      if (isFirst) context.resume(victim);
    } else await context.barrier();
    // What the rank does now must not disturb those that went on.
    if (wakesLate) await this.#exact("meanwhile", this.#others);
  }

  /**
   * One rank comes when the others' time is just up, or just not: it is given up by all, or by nobody.
   *
   * @returns whether it was given up
   */
  async #comeAtLimit(verdict: Verdict): Promise<boolean> {
    const context = this.#context;
    const { victim } = this.#scenario;
    const isVictim = context.rank === victim;
    const error = await (isVictim ? this.#misbehave() : this.#rounds("fault", this.#watchWaits())).then(
      () => undefined,
      (e: unknown) => e,
    );
    const after = performance.now() - this.#waitsSince;
    if (error instanceof CheckFailure) throw error;
    if (error !== undefined && isVictim) expectGivenUp("the rank itself", error, verdict, victim);
    else if (error !== undefined) {
      expectVerdict("the round", error, verdict, victim);
      context.measure("msToVerdict", after);
      for (const flight of this.#flights) await this.#expectOver(flight, verdict);
    }
    const failed = await context.gather(error !== undefined);
    check(new Set(failed).size === 1, `some ranks have given rank ${victim} up, others not: ${failed}`);
    return failed[0]!;
  }

  /** A flight of an instance that has failed: complete and exact, or nothing of it is handed out. */
  async #expectOver(flight: Flight, verdict: Verdict): Promise<void> {
    const { victim } = this.#scenario;
    try {
      await flight.arrive();
    } catch (error) {
      if (error instanceof CheckFailure) throw error;
      // A dispatch that was seen to arrive stays arrived.
      check(!flight.report, `a dispatch that had arrived failed later: ${error}`);
      expectVerdict("the dispatch, once more", error, verdict, victim);
      await flight.expectNothing({ late: true });
      return;
    }
    if (!flight.combine) return;
    try {
      await flight.finish();
    } catch (error) {
      if (error instanceof CheckFailure) throw error;
      expectVerdict("the combine, once more", error, verdict, victim);
      await flight.expectNaN();
    }
  }

  async #beVictim(): Promise<void> {
    const context = this.#context;
    const { victim, fault } = this.#scenario;
    const verdict = expectedVerdict(this.#scenario, context.target.traits.callsSeeMemory)!;
    if (fault === "never comes" || LEAVES.includes(fault)) {
      await this.#misbehave();
      return;
    }
    const error = await this.#misbehave().then(
      () => undefined,
      (e: unknown) => e,
    );
    if (error === undefined) throw new CheckFailure("the rank went on although it was given up");
    if (error instanceof CheckFailure) throw error;
    expectGivenUp("the rank itself", error, verdict, victim);
  }

  /** Plays until the fault, and where it can, on from there. */
  async #misbehave(): Promise<void> {
    const { point } = this.#scenario;
    class Left extends Error {}
    try {
      await this.#rounds("fault", async (at, flights) => {
        if (at === point && (await commit(this.#place, flights)) === "left") throw new Left();
      });
    } catch (error) {
      if (!(error instanceof Left)) throw error;
    }
  }

  /** Of a rank that came late in time: the others' reports must point at it. */
  #watchWaits(): AtPoint {
    const { fault, point, victim } = this.#scenario;
    return async (at, flights) => {
      const isLate = fault === "comes late, but in time" || fault === "comes at the limit";
      if (!isLate || point !== 0 || at !== 2) return;
      for (const { report } of flights) {
        const waits = report!.waitMs;
        check(waits[victim] === Math.max(...waits), `rank ${victim} was late; waits by rank: ${waits}`);
      }
    };
  }
}

/** The time limits of scenarios are short, and a process may take longer to share its window with many others. */
async function createInTime(context: Context): Promise<MoeAllToAll> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await context.create();
    } catch (error) {
      if (attempt === 3 || !isMoeA2AError(error, "ERR_MOE_A2A_PEER_TIMEOUT")) throw error;
      await context.barrier();
    }
  }
}

/** The case that plays a scenario. */
export function scenarioCase(scenario: Scenario): RankCase {
  const { ranks, lanes, fault, victim, seed } = scenario;
  const { config, round } = setUp({
    ranks,
    tokens: TOKENS + 1,
    topK: 2,
    maxDispatchBytesPerToken: 64,
    maxCombineBytesPerToken: 32,
    maxExpertStats: 2,
    roundsInFlight: lanes,
    timeoutMs: timeLimit(scenario),
  });
  const spec = (counts: readonly number[], over?: Partial<RoundSpec>) =>
    round(counts, { slots: TOKENS, ...over });
  return {
    name: `scenario ${seed}: ${nameScenario(scenario)}`,
    ranks,
    config,
    ...(DIES.includes(fault) ? { dying: [victim] } : {}),
    async run(context) {
      if (fault === "is created with another config") await createDifferently(context, scenario);
      const a2a = await createInTime(context);
      await new Player(context, scenario, spec, a2a).play();
    },
  };
}
