import type { Native } from "./native.js";

/** So many replays of a lane have an event of their own; of phases, as many as the library has events. */
const KEPT_REPLAYS = 8;

export type PhaseKind = "dispatch" | "combine";

/** Numbers the phases of a lane in the order of time. */
function phaseNumber(kind: PhaseKind, round: number): number {
  return 2 * round + (kind === "combine" ? 1 : 0);
}

/** Events that the library records behind a lane's phases of one kind, in turn. */
class PhaseEvents {
  readonly #events: readonly bigint[];
  /** By event, the phase that it passes with. */
  readonly #phases: number[];
  #last = -1;

  constructor(events: readonly bigint[]) {
    this.#events = events;
    this.#phases = events.map(() => Number.NEGATIVE_INFINITY);
  }

  /** The one that passes with the last phase of all; any, which has passed, where there was none. */
  get last(): bigint {
    return this.#events[Math.max(0, this.#last)]!;
  }

  /** @returns the event, which stood for an earlier phase so far */
  note(phase: number): bigint {
    this.#last = (this.#last + 1) % this.#events.length;
    this.#phases[this.#last] = phase;
    return this.last;
  }

  /** The first phase from `wanted` on that has an event, and this. */
  from(wanted: number): { readonly phase: number; readonly event: bigint } {
    let [phase, event] = [Number.POSITIVE_INFINITY, this.last];
    for (const [i, at] of this.#phases.entries()) {
      if (at >= wanted && at < phase) [phase, event] = [at, this.#events[i]!];
    }
    return { phase, event };
  }
}

/** An event that passes with a replay, for all lanes that have rounds in it; it goes back once none names it. */
export class ReplayEvent {
  readonly event: bigint;
  readonly #pool: ReplayEvents;
  #holders = 0;

  /** @internal */
  constructor(pool: ReplayEvents, event: bigint) {
    this.#pool = pool;
    this.event = event;
  }

  hold(): void {
    this.#holders++;
  }

  letGo(): void {
    if (--this.#holders === 0) this.#pool.give(this.event);
  }
}

/** An instance's events of replays: as many are kept as replays take in turn. */
export class ReplayEvents {
  readonly #native: Pick<Native, "takeEvent" | "giveEvent">;
  readonly #device: number;
  readonly #idle: bigint[] = [];

  constructor(native: Pick<Native, "takeEvent" | "giveEvent">, device: number) {
    this.#native = native;
    this.#device = device;
  }

  take(): ReplayEvent {
    return new ReplayEvent(this, this.#idle.pop() ?? this.#native.takeEvent(this.#device));
  }

  /** @internal */
  give(event: bigint): void {
    if (this.#idle.length < KEPT_REPLAYS) this.#idle.push(event);
    else this.#native.giveEvent(this.#device, event);
  }

  /** Keeps none any more. */
  close(): void {
    for (const event of this.#idle.splice(0)) this.#native.giveEvent(this.#device, event);
  }
}

/** Which events pass with which phases of a lane: its latest ones have an event each. */
export class LaneEvents {
  readonly #kinds: { readonly dispatch: PhaseEvents; readonly combine: PhaseEvents };
  /** Oldest first, each with its last phase. */
  readonly #replays: { readonly held: ReplayEvent; readonly phase: number }[] = [];

  constructor(dispatch: readonly bigint[], combine: readonly bigint[]) {
    this.#kinds = { dispatch: new PhaseEvents(dispatch), combine: new PhaseEvents(combine) };
  }

  /** Passes with the last phase of a kind that was enqueued outside of captures. */
  last(kind: PhaseKind): bigint {
    return this.#kinds[kind].last;
  }

  /** Passes with the last replay. */
  get lastReplay(): bigint | undefined {
    return this.#replays.at(-1)?.held.event;
  }

  /** The event that passes first of those that come with or after a phase. */
  after(kind: PhaseKind, round: number): bigint {
    const wanted = phaseNumber(kind, round);
    const { dispatch, combine } = this.#kinds;
    let found = dispatch.from(wanted);
    const other = combine.from(wanted);
    if (other.phase < found.phase) found = other;
    for (const { held, phase } of this.#replays) {
      if (phase >= wanted && phase < found.phase) found = { phase, event: held.event };
    }
    return found.event;
  }

  /** @returns the phase's event, which stood for an earlier one so far */
  notePhase(kind: PhaseKind, round: number): bigint {
    return this.#kinds[kind].note(phaseNumber(kind, round));
  }

  /** Notes a replay up to `round`. @returns what stood for an earlier one so far, to be let go of */
  noteReplay(held: ReplayEvent, round: number): ReplayEvent | undefined {
    held.hold();
    this.#replays.push({ held, phase: phaseNumber("combine", round) });
    return this.#replays.length > KEPT_REPLAYS ? this.#replays.shift()?.held : undefined;
  }

  /** Lets go of the events of replays: nobody waits for them any more. */
  forgetReplays(): void {
    for (const { held } of this.#replays.splice(0)) held.letGo();
  }
}
