import type { MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { setUp, sleep } from "../cases/common.js";
import { CheckFailure, check, throws } from "../check.js";
import { Flight } from "../flight.js";
import { Random } from "../random.js";
import type { RoundSpec } from "../round.js";
import { expectedVerdict, expectGivenUp, expectVerdict } from "./expected.js";
import { type Fault, nameScenario, type Scenario } from "./scenario.js";

/** Time limit where the fault is that somebody does not come in it. */
const SHORT_MS = 700;
/** Where a rank comes late on purpose, but in time. */
const DELAY_MS = 250;
const MIDDLE_MS = 10_000;
/** Never reached: the others must be told at once. */
const LONG_MS = 120_000;

/** Rounds in which the fault must have come to light: a rank that goes after one is missed in the next. */
const ROUNDS = 2;
const TOKENS = 4;

/** Faults after which the rank cannot go on in its group. */
const LEAVES: readonly Fault[] = ["is killed", "exits", "closes its instance", "closes its group"];
/** Faults of which no rank has to wait for the end. */
const TOLD_AT_ONCE: readonly Fault[] = ["aborts", "disagrees", "sends a bad id"];

const timeLimits: Partial<Record<Fault, number>> = {
  "never comes": SHORT_MS,
  "comes too late": SHORT_MS,
  "is stopped and wakes": SHORT_MS,
  "comes late, but in time": MIDDLE_MS,
};

/** The time limit of a scenario, in milliseconds. */
export function timeLimit(fault: Fault): number {
  return timeLimits[fault] ?? LONG_MS;
}

/** What a rank does at a point of a round. */
type AtPoint = (point: number, flights: readonly Flight[]) => Promise<void>;

/** One rank of a scenario. */
class Player {
  readonly #context: Context;
  readonly #scenario: Scenario;
  readonly #round: (key: string, over?: Partial<RoundSpec>) => RoundSpec;
  readonly #a2a: MoeAllToAll;
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
  }

  async play(): Promise<void> {
    const { victim, fault } = this.#scenario;
    await this.#exact("before");
    // Who is late is late from here on.
    await this.#context.barrier();
    const verdict = expectedVerdict(this.#scenario, this.#context.target.traits.callsSeeMemory);
    if (!verdict) {
      await (this.#context.rank === victim ? this.#misbehave() : this.#rounds("fault", this.#watchWaits()));
    } else if (this.#context.rank === victim) await this.#beVictim();
    else await this.#survive();
    if (!LEAVES.includes(fault)) {
      await this.#context.barrier();
      this.#context.at("reset with all");
      if (verdict) await this.#a2a.reset({ activeRanks: this.#all, timeoutMs: LONG_MS });
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
    if (LEAVES.includes(fault)) return;
    if (fault === "is stopped and wakes") {
      if (isFirst) context.resume(victim);
    } else await context.barrier();
    // What the rank does now must not disturb those that went on.
    if (wakesLate) await this.#exact("meanwhile", this.#others);
  }

  /** A flight of an instance that has failed: complete and exact, or nothing of it is handed out. */
  async #expectOver(flight: Flight, verdict: NonNullable<ReturnType<typeof expectedVerdict>>): Promise<void> {
    const { victim } = this.#scenario;
    try {
      await flight.arrive();
    } catch (error) {
      if (error instanceof CheckFailure) throw error;
      // A dispatch that was seen to arrive stays arrived.
      check(!flight.report, `a dispatch that had arrived failed later: ${error}`);
      expectVerdict("the dispatch, once more", error, verdict, victim);
      await flight.expectNothing();
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
        if (at === point && (await this.#fault(flights)) === "left") throw new Left();
      });
    } catch (error) {
      if (!(error instanceof Left)) throw error;
    }
  }

  /** Commits the fault. @returns whether the rank does nothing more */
  async #fault(flights: readonly Flight[]): Promise<"left" | "goes on"> {
    const context = this.#context;
    const a2a = this.#a2a;
    const { fault, point } = this.#scenario;
    switch (fault) {
      case "never comes":
        // Until the others have failed, and, for half of them, have gone on without this rank.
        await context.barrier();
        return "left";
      case "comes too late":
        await context.barrier();
        return "goes on";
      case "comes late, but in time":
        await sleep(DELAY_MS);
        return "goes on";
      case "is stopped and wakes":
        context.pause();
        return "goes on";
      case "is killed":
        return context.die("is terminated");
      case "exits":
        return context.die("exits");
      case "closes its instance":
        await a2a.close();
        return "left";
      case "closes its group":
        await context.group.close();
        return "left";
      case "aborts":
        a2a.abort("out of memory");
        return "goes on";
      case "sends a bad id":
        return this.#sendBadId();
      case "disagrees":
        return point === 0 ? this.#dispatchDifferently() : this.#combineDifferently(flights);
    }
  }

  /** An id that is no expert's: thrown at once where the call can see it, and then nothing has happened. */
  async #sendBadId(): Promise<"left" | "goes on"> {
    const context = this.#context;
    const { target, rank, config } = context;
    const counts = Array.from({ length: this.#scenario.ranks }, () => TOKENS);
    const bad = context.round("bad", { ...this.#round("bad"), counts });
    const ids = Int32Array.from(bad.inputs[rank]!.tokenSelectedExperts.data as Int32Array);
    ids[config.topK] = config.numExperts;
    const input = await Flight.input(this.#a2a, bad, target);
    await this.#a2a.write(input.tokenSelectedExperts, ids);
    if (!target.traits.callsSeeMemory) {
      await this.#a2a.dispatch(input).ready();
      return "goes on";
    }
    throws("dispatch", () => this.#a2a.dispatch(input), "ERR_MOE_A2A_EXPERT_ID", {
      fields: { rank, token: 1, k: 0, id: config.numExperts },
    });
    return "goes on";
  }

  async #dispatchDifferently(): Promise<never> {
    const context = this.#context;
    const { field } = this.#scenario;
    const usual = this.#round("fault/0/0");
    const strange: Partial<RoundSpec> =
      field === "runtimeMaxTokensPerRank"
        ? { slots: TOKENS + 1 }
        : field === "expertStatsLength"
          ? { stats: 1 }
          : field === "payloadCount"
            ? { payloads: usual.payloads.slice(0, 1) }
            : { payloads: usual.payloads.map((p, i) => (i === 0 ? { ...p, n: p.n + 1 } : p)) };
    const made = context.round("strange", { ...usual, ...strange });
    const flight = await context.launch(this.#a2a, made, { out: true });
    await flight.dispatch.ready();
    throw new CheckFailure(`ranks disagreed on ${field}, and the dispatch succeeded`);
  }

  async #combineDifferently(flights: readonly Flight[]): Promise<never> {
    const { field, ranks } = this.#scenario;
    const a2a = this.#a2a;
    const [hidden, dtype] = field === "dtype" ? ([8, "float16"] as const) : ([9, "bfloat16"] as const);
    const rows = a2a.empty(dtype, [ranks, TOKENS, hidden]);
    const combine = flights[0]!.dispatch.combine(rows);
    await combine.ready();
    throw new CheckFailure(`ranks disagreed on ${field}, and the combine succeeded`);
  }

  /** Of a rank that came late in time: the others' reports must point at it. */
  #watchWaits(): AtPoint {
    const { fault, point, victim } = this.#scenario;
    return async (at, flights) => {
      if (fault !== "comes late, but in time" || point !== 0 || at !== 2) return;
      for (const { report } of flights) {
        const waits = report!.waitMs;
        check(waits[victim] === Math.max(...waits), `rank ${victim} was late; waits by rank: ${waits}`);
      }
    };
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
    timeoutMs: timeLimit(fault),
  });
  const spec = (counts: readonly number[], over?: Partial<RoundSpec>) =>
    round(counts, { slots: TOKENS, ...over });
  return {
    name: `scenario ${seed}: ${nameScenario(scenario)}`,
    ranks,
    config,
    ...(fault === "is killed" || fault === "exits" ? { dying: [victim] } : {}),
    async run(context) {
      const a2a = await context.create();
      await new Player(context, scenario, spec, a2a).play();
    },
  };
}
