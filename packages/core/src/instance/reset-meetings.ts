import { argumentError, type CheckContext } from "../checks/check-tensor.js";
import { type MissingKind, MoeA2AError } from "../errors.js";
import type { Gatherings } from "../group/gathering.js";
import { describe } from "../tensor.js";

/** What ranks tell one another when they meet for a reset. */
export interface ResetState {
  /** By lane, the round that this rank would start next. */
  readonly nextRounds: readonly number[];
  /** Generation of this rank's window. */
  readonly generation: number;
}

interface Meeting extends ResetState {
  readonly activeRanks: readonly number[];
}

/** What a backend does in the middle of a reset, with what the named ranks came to. */
export interface ResetSteps {
  /** Between the meetings, while nobody sends: cleans this rank's window and raises the generation. */
  clean(agreed: ResetState): void;
  /** After both meetings: takes the new generation. */
  start(agreed: ResetState): void;
}

/** Where a rank meets the others of its instance for resets. */
export interface ResetPlace {
  readonly rank: number;
  readonly epSize: number;
  /** The instance's number in its group. */
  readonly instance: number;
  readonly gatherings: Gatherings;
  /** In memory that all ranks see: number of the next reset that each can join; failed ones are used up. */
  readonly words: { load(rank: number): number; store(number: number): void };
  /** Whether a rank has left for good. */
  departure(rank: number): MissingKind | undefined;
}

/**
 * Checks the membership of a reset.
 *
 * @returns the ranks, ascending
 * @throws ERR_MOE_A2A_ARGUMENT for anything but distinct ranks with this one among them
 */
export function checkActiveRanks({ config, rank }: CheckContext, given: unknown): readonly number[] {
  if (!Array.isArray(given))
    throw argumentError(rank, "activeRanks", `is ${describe(given)}, not an array of ranks`);
  const count = given.length;
  if (count > config.epSize)
    throw argumentError(rank, "activeRanks", `names ${count} ranks; there are ${config.epSize}`);
  // By index: each is read once, and a hole is no rank.
  const ranks: number[] = Array.from({ length: count }, (_, i) => given[i]);
  for (const r of ranks) {
    if (!Number.isInteger(r) || r < 0 || r >= config.epSize) {
      throw argumentError(rank, "activeRanks", `names ${describe(r)}; ranks are 0…${config.epSize - 1}`);
    }
  }
  ranks.sort((a, b) => a - b);
  for (const [i, r] of ranks.entries()) {
    if (r === ranks[i - 1]) throw argumentError(rank, "activeRanks", `names rank ${r} twice`);
  }
  if (!ranks.includes(rank)) {
    throw argumentError(
      rank,
      "activeRanks",
      `[${ranks.join(", ")}] leaves out rank ${rank} itself; a rank that is left out does not call reset()`,
    );
  }
  return ranks;
}

/** The meetings of one rank's resets: two for each, with the cleaning in between. */
export class ResetMeetings {
  readonly #place: ResetPlace;
  /** Keys that a reset under way gathers under. */
  #keys: readonly string[] = [];

  constructor(place: ResetPlace) {
    this.#place = place;
  }

  /** @throws ERR_MOE_A2A_PEER_TIMEOUT for named ranks that have left for good, which cannot be waited for */
  checkPresent(ranks: readonly number[]): void {
    const { rank } = this.#place;
    const left = (kind: MissingKind) =>
      ranks.filter((peer) => peer !== rank && this.#place.departure(peer) === kind);
    const [lost, closed] = [left("lost"), left("closed")];
    const kind = lost.length > 0 ? "lost" : "closed";
    const missingRanks = [...lost, ...closed].sort((a, b) => a - b);
    if (missingRanks.length === 0) return;
    throw new MoeA2AError(
      "ERR_MOE_A2A_PEER_TIMEOUT",
      `rank ${rank}, reset: these ranks have left and cannot come back: ${missingRanks.join(", ")} ` +
        `(closed: ${closed.join(", ") || "none"}; ended without closing: ${lost.join(", ") || "none"}); leave them out of activeRanks`,
      { phase: "reset", round: 0, missingRanks, kind },
    );
  }

  /**
   * Meets the named ranks, has this rank's window cleaned while nobody sends, meets again, and starts the next generation.
   * This rank must have stopped sending.
   *
   * @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT naming who did not come, ERR_MOE_A2A_MISMATCH where ranks name different
   * members
   */
  async run(ranks: readonly number[], timeoutMs: number, mine: ResetState, steps: ResetSteps): Promise<void> {
    const { rank, epSize, instance, gatherings, words } = this.#place;
    const number = this.#join(ranks);
    const meeting = this.#key(number);
    const cleaned = `${meeting}:cleaned`;
    this.#keys = [meeting, cleaned];
    const departure = (peer: number) => this.#place.departure(peer);
    const options = { ranks, timeoutMs, phase: "reset", where: "reset", departure } as const;
    let hasMet = false;
    try {
      const met = await gatherings.gather<Meeting>(
        meeting,
        { ...mine, activeRanks: ranks },
        {
          ...options,
          series: { name: `reset:${instance}`, number },
          isValid: (value) => isMeeting(value, mine.nextRounds.length),
          check: (peer, theirs) => {
            if (theirs.activeRanks.join() === ranks.join()) return undefined;
            const values: unknown[] = new Array(epSize).fill(undefined);
            values[rank] = [...ranks];
            values[peer] = [...theirs.activeRanks];
            return mismatch(rank, values);
          },
        },
      );
      hasMet = true;
      // All named ranks have stopped sending, and none sends again before the second meeting.
      const values = ranks.map((r) => met[r] as Meeting);
      const agreed: ResetState = {
        nextRounds: mine.nextRounds.map((_, l) => Math.max(...values.map((value) => value.nextRounds[l]!))),
        generation: (Math.max(...values.map((value) => value.generation)) + 1) | 0,
      };
      steps.clean(agreed);
      await gatherings.gather(cleaned, undefined, {
        ...options,
        series: { name: `reset:${instance}:cleaned`, number },
      });
      steps.start(agreed);
    } catch (error) {
      // Who waits for this rank may not have named those from whom it has the error. Who is already past the first meeting
      // must not wait in the second for a rank that failed in the first.
      if (error instanceof MoeA2AError) {
        if (!hasMet) gatherings.giveUp(meeting, error);
        gatherings.giveUp(cleaned, error);
      }
      // Only then: who finds this meeting used up has to find the failure, too.
      words.store(number + 1);
      throw error;
    } finally {
      this.#keys = [];
    }
    words.store(number + 1);
  }

  /** Ends a reset under way, here and on the ranks that wait for this one. */
  giveUp(error: MoeA2AError): void {
    for (const key of this.#keys) this.#place.gatherings.giveUp(key, error);
  }

  #key(number: number): string {
    return `reset:${this.#place.instance}:${number}`;
  }

  /**
   * The number under which the named ranks meet: the first that none of them has used up.
   *
   * @throws ERR_MOE_A2A_MISMATCH where the others have just disagreed without waiting for this rank, and do not meet again
   * so far: all are to know
   */
  #join(ranks: readonly number[]): number {
    const { rank, words, gatherings } = this.#place;
    const mine = words.load(rank);
    const number = Math.max(...ranks.map((r) => words.load(r)));
    if (number > mine && !gatherings.hasBegun(this.#key(number), ranks)) {
      const missed = gatherings.failure(this.#key(number - 1), ranks);
      if (missed?.code === "ERR_MOE_A2A_MISMATCH") {
        // Who waits for this rank there, and named none of those that have disagreed, is not told by them.
        gatherings.giveUp(this.#key(number - 1), missed);
        words.store(number);
        throw missed;
      }
    }
    words.store(number);
    return number;
  }
}

const isInt32 = (value: unknown): boolean =>
  Number.isInteger(value) && (value as number) === ((value as number) | 0);

/** Round numbers beyond are not counted up to, and would not grow any more. */
const MAX_ROUND = 2 ** 52;

function isMeeting(value: unknown, lanes: number): boolean {
  const { nextRounds, generation, activeRanks } = (value ?? {}) as Partial<Record<keyof Meeting, unknown>>;
  return (
    Array.isArray(nextRounds) &&
    nextRounds.length === lanes &&
    nextRounds.every((round) => Number.isInteger(round) && round >= 0 && round <= MAX_ROUND) &&
    isInt32(generation) &&
    Array.isArray(activeRanks) &&
    activeRanks.every(isInt32)
  );
}

function mismatch(rank: number, values: readonly unknown[]): MoeA2AError<"ERR_MOE_A2A_MISMATCH"> {
  const list = values.map((value, r) => `rank ${r}: [${value}]`).filter((_, r) => values[r] !== undefined);
  return new MoeA2AError(
    "ERR_MOE_A2A_MISMATCH",
    `rank ${rank}, reset: ranks disagree on activeRanks (${list.join(", ")}); every rank named has to name the same`,
    { field: "activeRanks", values },
  );
}
