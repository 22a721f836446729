import { type MissingKind, MoeA2AError } from "../errors.js";
import { fromVerdict, missingError, toVerdict, type Verdict } from "../verdict.js";
import type { Gatherings, GatherOptions, GroupMessage, PeerState, Series } from "./gathering.js";

interface Pending {
  readonly ranks: readonly number[];
  readonly mine: unknown;
  readonly options: GatherOptions<unknown>;
  readonly timer: ReturnType<typeof setTimeout>;
  readonly resolve: (values: unknown[]) => void;
  readonly reject: (error: MoeA2AError) => void;
}

interface Entry {
  series?: Series | undefined;
  readonly values: Map<number, unknown>;
  readonly failures: Map<number, Verdict>;
  pending?: Pending;
}

/**
 * All-gather by key over any wire that broadcasts, without a coordinator.
 *
 * A key is used once. Each rank puts its value and completes when it has the others'; one that gives up says so, which
 * ends the key for everybody, so that no rank waits for a gathering that cannot complete.
 */
export class Rendezvous implements Gatherings {
  readonly #rank: number;
  readonly #size: number;
  readonly #post: (message: GroupMessage) => void;
  readonly #peerState: (rank: number) => PeerState;
  readonly #drain: () => void;
  readonly #afterCatchingUp: (then: () => void) => void;
  readonly #distrust: ((rank: number) => void) | undefined;
  readonly #entries = new Map<string, Entry>();
  #closed = false;

  constructor(wiring: {
    readonly rank: number;
    readonly size: number;
    readonly post: (message: GroupMessage) => void;
    readonly peerState: (rank: number) => PeerState;
    /** Takes in, by `receive()`, all messages that others have posted by now. */
    readonly drain: () => void;
    /** Calls `then` once all messages have been taken in that had come by now; default at once, after {@link drain}. */
    readonly afterCatchingUp?: (then: () => void) => void;
    /** Ends the connection to a rank that sent what it must not send; where left out, values are not checked. */
    readonly distrust?: (rank: number) => void;
  }) {
    this.#rank = wiring.rank;
    this.#size = wiring.size;
    this.#post = wiring.post;
    this.#peerState = wiring.peerState;
    this.#drain = wiring.drain;
    this.#afterCatchingUp = wiring.afterCatchingUp ?? ((then) => then());
    this.#distrust = wiring.distrust;
  }

  /** Why one of `ranks` has given up on `key` already, or undefined. */
  failure(key: string, ranks: readonly number[]): MoeA2AError | undefined {
    this.#catchUp();
    const failures = this.#entries.get(key)?.failures;
    const rank = ranks.find((r) => failures?.has(r));
    return rank === undefined ? undefined : fromVerdict(failures?.get(rank) as Verdict, rank);
  }

  /** Whether one of `ranks` has put a value under `key` already. */
  hasBegun(key: string, ranks: readonly number[]): boolean {
    this.#catchUp();
    const values = this.#entries.get(key)?.values;
    return ranks.some((rank) => values?.has(rank));
  }

  /** Puts `value` and waits for the others'. The result is indexed by rank; ranks that take no part are left empty. */
  gather<T>(key: string, value: T, options: GatherOptions<T>): Promise<T[]> {
    if (this.#closed) return Promise.reject(this.#closedError(options.where));
    const ranks = options.ranks ?? Array.from({ length: this.#size }, (_, rank) => rank);
    const failure = this.failure(key, ranks);
    if (failure) return Promise.reject(failure);
    const entry = this.#entry(key);
    entry.values.set(this.#rank, value);
    entry.series = options.series;
    return new Promise<T[]>((resolve, reject) => {
      entry.pending = {
        ranks,
        mine: value,
        options: options as GatherOptions<unknown>,
        // Ref'd on purpose: a pending gathering keeps the process alive.
        timer: setTimeout(() => this.#late(key, entry), options.timeoutMs),
        resolve: resolve as (values: unknown[]) => void,
        reject,
      };
      this.#post({ kind: "put", from: this.#rank, key, value, series: options.series });
      this.#advance(key, entry);
    });
  }

  /** Gives up on a key, pending here or not: nobody can complete it any more, and whoever waits is told. */
  giveUp(key: string, error: MoeA2AError): void {
    const entry = this.#entry(key);
    if (!this.#closed && !entry.failures.has(this.#rank)) this.#fail(key, entry, error);
  }

  /** Tells the others to look again who is gone. */
  announceDeparture(): void {
    if (!this.#closed) this.#post({ kind: "gone", from: this.#rank });
  }

  /** Takes a message of another rank. */
  receive(message: GroupMessage): void {
    if (this.#closed) return;
    switch (message.kind) {
      case "hello":
        this.#repeatFor(message.from);
        break;
      case "put": {
        if (message.to !== undefined && message.to !== this.#rank) break;
        const entry = this.#entry(message.key);
        entry.series ??= message.series;
        if (message.series) this.#overtake(message.series, message.from, message.value);
        if (entry.failures.has(this.#rank) || entry.failures.has(message.from)) break;
        entry.values.set(message.from, message.value);
        this.#advance(message.key, entry);
        break;
      }
      case "fail": {
        if (message.to !== undefined && message.to !== this.#rank) break;
        const entry = this.#entry(message.key);
        entry.failures.set(message.from, message.verdict);
        entry.values.delete(message.from);
        if (entry.pending?.ranks.includes(message.from)) {
          this.#settle(entry).reject(fromVerdict(message.verdict, message.from));
        }
        break;
      }
      case "gone":
        for (const [key, entry] of this.#entries) this.#advance(key, entry);
        break;
    }
  }

  /** Rejects what is pending; nothing is sent or taken from now on. */
  close(): void {
    this.#closed = true;
    for (const entry of this.#entries.values()) {
      if (!entry.pending) continue;
      const { reject, options } = this.#settle(entry);
      reject(this.#closedError(options.where));
    }
    this.#entries.clear();
  }

  /** A wire that was closed has nothing more to take in, and may not even be looked at. */
  #catchUp(): void {
    if (!this.#closed) this.#drain();
  }

  #entry(key: string): Entry {
    const known = this.#entries.get(key);
    if (known) return known;
    const entry: Entry = { values: new Map(), failures: new Map() };
    this.#entries.set(key, entry);
    return entry;
  }

  /** A rank that is in a later gathering of a series will not come to the earlier ones any more. */
  #overtake({ name, number }: Series, from: number, value: unknown): void {
    for (const [key, entry] of this.#entries) {
      if (entry.series?.name !== name || entry.series.number >= number) continue;
      const { pending } = entry;
      if (pending) {
        const waitsForIt = pending.ranks.includes(from) && !entry.values.has(from);
        if (!waitsForIt || !this.#isValid(pending, from, value)) continue;
        const error = pending.options.check?.(from, value);
        if (error) this.#fail(key, entry, error);
      } else {
        entry.values.delete(from);
        if (entry.values.size === 0 && entry.failures.size === 0) this.#entries.delete(key);
      }
    }
  }

  /** A rank that joined late missed what was broadcast before: say it again, to it alone. */
  #repeatFor(to: number): void {
    for (const [key, { pending, failures }] of this.#entries) {
      if (pending) {
        const { mine: value, options } = pending;
        this.#post({ kind: "put", from: this.#rank, to, key, value, series: options.series });
      }
      const verdict = failures.get(this.#rank);
      if (verdict) this.#post({ kind: "fail", from: this.#rank, to, key, verdict });
    }
  }

  /** Completes or fails an entry as far as what is known allows. */
  #advance(key: string, entry: Entry): void {
    const { pending } = entry;
    if (!pending) return;
    for (const rank of pending.ranks) {
      if (rank === this.#rank || !entry.values.has(rank)) continue;
      if (!this.#isValid(pending, rank, entry.values.get(rank))) {
        entry.values.delete(rank);
        // The rank's loss has been dealt with already.
        if (entry.pending !== pending) return;
        continue;
      }
      const error = pending.options.check?.(rank, entry.values.get(rank));
      if (error) {
        this.#fail(key, entry, error);
        return;
      }
    }
    if (pending.ranks.every((rank) => entry.values.has(rank))) {
      this.#entries.delete(key);
      const values: unknown[] = [];
      for (const rank of pending.ranks) values[rank] = entry.values.get(rank);
      this.#settle(entry).resolve(values);
      return;
    }
    // A state shows at once, a message later: a rank that has gone may have put its value before.
    if (!this.#departed(entry, pending)) return;
    this.#catchUp();
    if (entry.pending !== pending) return;
    const kind = this.#departed(entry, pending);
    if (kind) this.#missing(key, entry, kind);
  }

  #isValid({ options }: Pending, rank: number, value: unknown): boolean {
    if (!this.#distrust || options.isValid?.(value) !== false) return true;
    this.#distrust(rank);
    return false;
  }

  /** How a rank went whose value is missing. */
  #departed(entry: Entry, pending: Pending): "lost" | "closed" | undefined {
    const missing = pending.ranks.filter((rank) => !entry.values.has(rank));
    const departures = missing.map((rank) => this.#departure(rank, pending));
    return departures.includes("lost") ? "lost" : departures.includes("closed") ? "closed" : undefined;
  }

  #departure(rank: number, { options }: Pending): MissingKind | undefined {
    const state = this.#peerState(rank);
    return state === "lost" || state === "closed" ? state : options.departure?.(rank);
  }

  /** The time is up: what was posted in time counts, also where this thread was too busy to take it in. */
  #late(key: string, entry: Entry): void {
    const { pending } = entry;
    this.#catchUp();
    this.#afterCatchingUp(() => {
      if (pending && entry.pending === pending) this.#missing(key, entry, "timeout");
    });
  }

  #missing(key: string, entry: Entry, kind: MissingKind): void {
    const { pending } = entry;
    if (!pending) return;
    const { options } = pending;
    const missingRanks = pending.ranks.filter(
      (rank) => !entry.values.has(rank) && (kind === "timeout" || this.#departure(rank, pending) === kind),
    );
    this.#fail(
      key,
      entry,
      missingError({
        phase: options.phase,
        round: options.round ?? 0,
        missingRanks,
        kind,
        timeoutMs: options.timeoutMs,
        rank: this.#rank,
        where: options.where,
      }),
    );
  }

  #fail(key: string, entry: Entry, error: MoeA2AError): void {
    const verdict = toVerdict(error);
    entry.failures.set(this.#rank, verdict);
    entry.values.clear();
    this.#post({ kind: "fail", from: this.#rank, key, verdict });
    if (entry.pending) this.#settle(entry).reject(error);
  }

  #settle(entry: Entry): Pending {
    const pending = entry.pending as Pending;
    clearTimeout(pending.timer);
    entry.pending = undefined;
    return pending;
  }

  #closedError(where: string): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    return new MoeA2AError(
      "ERR_MOE_A2A_STATE",
      `rank ${this.#rank}, ${where}: this rank has closed its group`,
      {
        state: "closed",
      },
    );
  }
}
