import { bytesPerElement, type CombineDType, type MoeAllToAllConfig } from "@moe-a2a/core";
import type { Context, RankCase } from "./case.js";
import { rowBytes, vary } from "./cases/common.js";
import type { Flight } from "./flight.js";
import { Random } from "./random.js";
import type { PayloadSpec, RoundSpec } from "./round.js";

/** One random round. Lists by rank may be longer than there are ranks. */
export interface WorldRound {
  /** Ranks without tokens, as bits. */
  readonly idle: number;
  /** Tokens of the others. */
  readonly counts: readonly number[];
  /** Slots beyond the most tokens of a rank. */
  readonly slack: number;
  readonly payloads: readonly PayloadSpec[];
  /** Whether a further payload carries the ids, and what its padding slots hold; undefined: not named. */
  readonly idPayload: "none" | "named" | "unnamed";
  readonly invalidTokenExpertId: number | undefined;
  readonly routing: "distinct" | "repeated" | "padded" | "wild";
  readonly stats: number | undefined;
  readonly hidden: number;
  readonly dtype: CombineDType;
  readonly outDtypes: readonly (CombineDType | undefined)[];
  readonly values: "spread" | "special" | "bits";
  /** Ranks that take part from this round on, as bits; 0 leaves the membership as it is. */
  readonly membership: number;
}

/** A random config and what happens in it. Plain data, so that it travels, prints and shrinks. */
export interface World {
  readonly seed: number;
  readonly ranks: number;
  readonly moreExperts: number;
  readonly topK: number;
  readonly lanes: 1 | 2;
  readonly drop: boolean;
  readonly rounds: readonly WorldRound[];
}

/** A world to play, in place of the name of a case. */
export interface WorldRef {
  readonly world: World;
}

const ranksOf = (bits: number, ranks: number): number[] =>
  Array.from({ length: ranks }, (_, r) => r).filter((r) => (bits >> r) & 1);

/** What a round of a world is, for a config. */
function specOf(
  world: World,
  round: WorldRound,
  topK: number,
  active: readonly number[],
): RoundSpec & { slots: number } {
  const counts = Array.from({ length: world.ranks }, (_, r) =>
    (round.idle >> r) & 1 ? 0 : (round.counts[r] ?? 0),
  );
  const payloads = [...round.payloads];
  if (round.idPayload !== "none") payloads.push({ dtype: "int32", n: topK, ids: true });
  return {
    counts,
    slots: Math.max(0, ...active.map((r) => counts[r] as number)) + round.slack,
    payloads,
    routing: round.routing === "wild" && !world.drop ? "padded" : round.routing,
    nameIds: round.idPayload === "named",
    invalidTokenExpertId: round.invalidTokenExpertId,
    stats: round.stats,
    hidden: round.hidden,
    dtype: round.dtype,
    outDtypes: round.outDtypes.slice(0, world.ranks),
    values: round.values,
    active,
  };
}

/** Memberships by round: each holds until the next one is named. */
function memberships(world: World): readonly (readonly number[])[] {
  let current = Array.from({ length: world.ranks }, (_, r) => r);
  return world.rounds.map(({ membership }) => {
    const named = ranksOf(membership, world.ranks);
    if (named.length > 0) current = named;
    return current;
  });
}

/** The case that plays a world, with its rounds in pairs where there are two lanes. */
export function worldCase(world: World): RankCase {
  const numExperts = world.ranks + world.moreExperts;
  const topK = Math.min(world.topK, numExperts);
  const active = memberships(world);
  const specs = world.rounds.map((round, i) => specOf(world, round, topK, active[i] as number[]));
  const config: MoeAllToAllConfig = {
    epSize: world.ranks,
    numExperts,
    topK,
    maxTokensPerRank: Math.max(1, ...specs.map((s) => s.slots)),
    maxDispatchBytesPerToken: Math.max(1, ...specs.map((s) => rowBytes(s.payloads))),
    maxCombineBytesPerToken: Math.max(1, ...specs.map((s) => s.hidden * bytesPerElement(s.dtype))),
    maxExpertStats: Math.max(0, ...specs.map((s) => s.stats ?? 0)),
    invalidExpert: world.drop ? "drop" : "error",
    roundsInFlight: world.lanes,
    timeoutMs: 10_000,
  };
  return {
    name: `world ${world.seed}`,
    ranks: world.ranks,
    config,
    run: (context) => playWorld(context, world, specs, active),
  };
}

/** Lets other ranks go first for a few turns of the event loop. */
async function pause(order: Random): Promise<void> {
  for (let turns = order.int(0, 3); turns > 0; turns--) await new Promise(setImmediate);
}

async function playWorld(
  context: Context,
  world: World,
  specs: readonly RoundSpec[],
  active: readonly (readonly number[])[],
): Promise<void> {
  const a2a = await context.create();
  const order = new Random(world.seed, "order", context.rank);
  let members = active[0] as readonly number[];
  let first = true;
  for (let turn = 0; turn < specs.length; ) {
    const next = active[turn] as readonly number[];
    const changes = first ? next.length < world.ranks : next !== members;
    if (changes) {
      // Ranks that come back have to wait until the others have finished.
      await context.barrier();
      if (next.includes(context.rank)) await a2a.reset({ activeRanks: next });
    }
    first = false;
    members = next;

    const together = world.lanes === 2 && active[turn + 1] === next ? 2 : 1;
    if (members.includes(context.rank)) {
      context.at(`round ${turn}${together === 2 ? ` and ${turn + 1}` : ""}`);
      const flights: Flight[] = [];
      for (let i = turn; i < turn + together; i++) {
        const made = context.round(i, specs[i] as RoundSpec);
        flights.push(await context.launch(a2a, made, vary(context, i + world.seed)));
      }
      const inOrder = () => (order.oneIn(2) ? flights : [...flights].reverse());
      for (const flight of inOrder()) await pause(order).then(() => flight.arrive());
      for (const flight of inOrder()) await pause(order).then(() => flight.offer());
      for (const flight of inOrder()) {
        await pause(order);
        // What arrived is still there, although others may have sent their next rounds by now.
        if (order.oneIn(3)) await flight.compareStillThere();
        await flight.finish();
      }
    }
    turn += together;
  }
}
