import type { Native } from "./native.js";
import type { Tokens } from "./tokens.js";

/** When a phase ran on its GPU: milliseconds since 1970, as `performance.timeOrigin + performance.now()` gives them. */
export interface DeviceTime {
  readonly start: number;
  readonly end: number;
}

/** What the clock needs of the addon. */
export type ClockNative = Pick<
  Native,
  | "createTimer"
  | "destroyTimer"
  | "recordEvent"
  | "elapsed"
  | "pollEvent"
  | "waitFor"
  | "isCapturing"
  | "sharedStream"
>;

/** After so many milliseconds the clocks are compared anew: they drift apart by some microseconds a second. */
const COMPARE_MS = 1000;
/** How long a comparison that came to nothing is not tried again. */
const RETRY_MS = 100;
/** How long a comparison may hold up the thread, in microseconds. */
const LIMIT_US = 500;
/** The best of so many comparisons is taken, or one in so few milliseconds. */
const ATTEMPTS = 5;
const GOOD_MS = 0.015;

const now = (): number => performance.timeOrigin + performance.now();

/** A moment that both clocks know. */
interface Moment {
  readonly timer: bigint;
  readonly at: number;
  /** Phases that are counted from here. */
  users: number;
}

/** A phase that is about to be enqueued. */
export interface PhaseTimer {
  /** The phase is enqueued; settles once it has run, with undefined where its time cannot be had. Never rejects. */
  end(): Promise<DeviceTime | undefined>;
  /** It was not enqueued. */
  cancel(): void;
}

/** The times of phases on one GPU, on the clock of the host. */
export class PhaseClock {
  readonly #native: ClockNative;
  readonly #tokens: Pick<Tokens, "end">;
  readonly #device: number;
  #moment: Moment | undefined;
  #failedAt = Number.NEGATIVE_INFINITY;

  constructor(native: ClockNative, tokens: Pick<Tokens, "end">, device: number) {
    this.#native = native;
    this.#tokens = tokens;
    this.#device = device;
  }

  /** Marks where a phase begins; undefined where it cannot be timed, as while its stream is captured. Never throws. */
  begin(stream: bigint): PhaseTimer | undefined {
    const native = this.#native;
    const device = this.#device;
    const taken: bigint[] = [];
    const take = (): bigint => {
      const timer = native.createTimer(device);
      taken.push(timer);
      native.recordEvent(device, timer, stream);
      return timer;
    };
    let moment: Moment | undefined;
    const giveBack = (): void => {
      for (const timer of taken.splice(0)) native.destroyTimer(device, timer);
      if (moment) this.#leave(moment);
      moment = undefined;
    };
    try {
      if (native.isCapturing(device, stream)) return undefined;
      moment = this.#latest();
      if (!moment) return undefined;
      moment.users++;
      const { timer: zero, at } = moment;
      const start = take();
      const since = (timer: bigint): number => at + native.elapsed(device, zero, timer);
      const end = async (): Promise<DeviceTime | undefined> => {
        try {
          const last = take();
          await this.#tokens.end(native.waitFor(device, last));
          return { start: since(start), end: since(last) };
        } catch {
          // The device is broken, which the phase itself tells.
          return undefined;
        } finally {
          giveBack();
        }
      };
      return { end, cancel: giveBack };
    } catch {
      giveBack();
      return undefined;
    }
  }

  #leave(moment: Moment): void {
    moment.users--;
    if (moment.users === 0 && moment !== this.#moment) this.#native.destroyTimer(this.#device, moment.timer);
  }

  /** A moment not long ago; an older one where the GPU's copies leave no time for a new one. */
  #latest(): Moment | undefined {
    const old = this.#moment;
    const time = now();
    if (old && time - old.at < COMPARE_MS) return old;
    if (time - this.#failedAt < RETRY_MS) return old;
    const found = this.#compare();
    if (!found) {
      this.#failedAt = time;
      return old;
    }
    this.#moment = found;
    if (old?.users === 0) this.#native.destroyTimer(this.#device, old.timer);
    return found;
  }

  /** The best of some comparisons; undefined where there is none. */
  #compare(): Moment | undefined {
    let best: (Moment & { readonly took: number }) | undefined;
    for (let i = 0; i < ATTEMPTS && !(best && best.took <= GOOD_MS); i++) {
      const found = this.#compareOnce();
      if (!found) break;
      const worse = best && best.took <= found.took ? found : best;
      if (worse) this.#native.destroyTimer(this.#device, worse.timer);
      if (worse !== found) best = found;
    }
    return best;
  }

  /** Lets the GPU take the time while the host looks on: it did so in between. */
  #compareOnce(): (Moment & { readonly took: number }) | undefined {
    const native = this.#native;
    const device = this.#device;
    let timer: bigint | undefined;
    try {
      const stream = native.sharedStream(device);
      timer = native.createTimer(device);
      const before = now();
      native.recordEvent(device, timer, stream);
      if (native.pollEvent(device, timer, LIMIT_US)) {
        const took = now() - before;
        return { timer, at: before + took / 2, users: 0, took };
      }
    } catch {
      // The device is broken, which others tell.
    }
    if (timer !== undefined) native.destroyTimer(device, timer);
    return undefined;
  }
}

const clocks = new Map<number, PhaseClock>();

/** The clock of a GPU, one for all instances of this thread. */
export function clockOf(native: Native, tokens: Tokens, device: number): PhaseClock {
  let clock = clocks.get(device);
  if (!clock) {
    clock = new PhaseClock(native, tokens, device);
    clocks.set(device, clock);
  }
  return clock;
}
