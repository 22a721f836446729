import type { Group, MoeAllToAll, MoeAllToAllConfig } from "@moe-a2a/core";
import { type BackendUnderTest, canBlock, type GroupKind, type TestOptions } from "./backends.js";
import type { Context, RankCase } from "./case.js";
import { Flight, type PlayOptions } from "./flight.js";
import { makeRound, type Round, type RoundSpec } from "./round.js";

/** What runs of the same case on all ranks have in common. */
export interface Run {
  readonly target: BackendUnderTest;
  readonly kind: GroupKind;
  readonly case: RankCase;
  readonly seed: number;
  /** Each rank waits up to this long before each step, so that a case that hopes for an order of ranks fails. */
  readonly jitterMs?: number | undefined;
  /** Joins as any rank; not where ranks share a thread. */
  readonly rejoin?: (rank: number, timeoutMs: number) => Promise<Group>;
}

/** How a rank ended. */
export interface RankResult {
  readonly rank: number;
  /** What went wrong, or undefined. */
  readonly failure?: string;
  /** Whether the rank's thread ended. */
  readonly ended?: boolean;
  /** When, on a clock that all threads share. */
  readonly time: number;
  /** What the case measured on this rank. */
  readonly figures?: Readonly<Record<string, number>>;
}

/** What a rank needs of the thread that it lives on. */
export interface Host {
  /** Keeps what the rank is about to do. */
  note(where: string): void;
  /** Ends the thread. */
  die(how: "exits" | "is terminated"): Promise<never>;
  /** Stops the thread or process, until it is told to go on. */
  pause(): void;
  /** Has another rank go on that has stopped itself. */
  resume(rank: number): void;
}

/** Rounds that ranks of one thread have in common, so that each is made once for all of them. */
export class RoundStore {
  readonly #readers: number;
  readonly #rounds = new Map<string, { readonly round: Round; left: number }>();

  constructor(readers: number) {
    this.#readers = readers;
  }

  get(key: string, make: () => Round): Round {
    const entry = this.#rounds.get(key) ?? { round: make(), left: this.#readers };
    entry.left--;
    if (entry.left > 0) this.#rounds.set(key, entry);
    else this.#rounds.delete(key);
    return entry.round;
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One rank of a case. */
export class RankRun implements Context {
  readonly rank: number;
  readonly size: number;
  readonly target: BackendUnderTest;
  readonly kind: GroupKind;
  readonly canBlock: boolean;
  readonly config: MoeAllToAllConfig;
  readonly seed: number;
  readonly group: Group;
  readonly #run: Run;
  readonly #store: RoundStore;
  readonly #host: Host;
  // Weak, so that the suite keeps no instance alive that a case has let go.
  readonly #instances: WeakRef<MoeAllToAll>[] = [];
  readonly #figures: Record<string, number> = {};
  #where = "start";

  constructor(run: Run, group: Group, store: RoundStore, host: Host) {
    this.#run = run;
    this.#store = store;
    this.#host = host;
    this.rank = group.rank;
    this.size = group.size;
    this.target = run.target;
    this.kind = run.kind;
    this.canBlock = canBlock(run.target, run.kind);
    this.config = run.case.config;
    this.seed = run.seed;
    this.group = group;
  }

  /** Runs the case and says how it ended; never rejects. */
  async execute(): Promise<RankResult> {
    let failure: string | undefined;
    try {
      // Time limits of cases are short, and threads take a while to start.
      this.#host.note("meeting the others");
      await this.barrier();
      this.#host.note(this.#where);
      await this.#run.case.run(this);
      this.at("end");
      // Instances stay open until all ranks are done. Peers that left in the case are not waited for.
      await this.barrier().catch(() => undefined);
    } catch (error) {
      failure = `rank ${this.rank}, ${this.#where}: ${explain(error)}`;
    }
    const time = performance.timeOrigin + performance.now();
    this.#host.note("closing");
    await this.close();
    const result = { rank: this.rank, time, figures: this.#figures };
    return failure === undefined ? result : { ...result, failure };
  }

  /** Leaves instances and group; peers that wait for this rank fail at once. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#instances.map((a2a) => a2a.deref()?.close()));
    await this.group.close();
  }

  async create(over?: Partial<MoeAllToAllConfig>, options?: TestOptions): Promise<MoeAllToAll> {
    const placed = { ...this.target.placement(this.rank), ...options };
    const a2a = await this.target.backend.create({ ...this.config, ...over }, this.group, placed);
    this.#instances.push(new WeakRef(a2a));
    return a2a;
  }

  round(key: string | number, spec: RoundSpec, config: MoeAllToAllConfig = this.config): Round {
    const seed = `${this.seed}/${this.#run.case.name}/${key}`;
    return this.#store.get(String(key), () => makeRound(config, spec, seed));
  }

  async launch(a2a: MoeAllToAll, round: Round, options?: PlayOptions): Promise<Flight> {
    await this.#jitter();
    return Flight.launch(a2a, round, this.target, options);
  }

  async play(a2a: MoeAllToAll, round: Round, options?: PlayOptions): Promise<void> {
    const flight = await this.launch(a2a, round, options);
    await flight.complete();
  }

  at(where: string): void {
    this.#where = where;
    this.#host.note(where);
  }

  die(how: "exits" | "is terminated"): Promise<never> {
    return this.#host.die(how);
  }

  pause(): void {
    this.#host.pause();
  }

  resume(rank: number): void {
    this.#host.resume(rank);
  }

  async rejoin(rank: number, timeoutMs: number): Promise<Group> {
    if (!this.#run.rejoin) throw new Error("ranks of a local group cannot start again");
    return this.#run.rejoin(rank, timeoutMs);
  }

  measure(what: string, value: number): void {
    this.#figures[what] = value;
  }

  async #jitter(): Promise<void> {
    const limit = this.#run.jitterMs ?? 0;
    if (limit > 0) await new Promise((resolve) => setTimeout(resolve, Math.random() * limit));
  }

  async barrier(): Promise<void> {
    await this.gather(null);
  }

  async gather<T>(value: T): Promise<T[]> {
    const bytes = encoder.encode(JSON.stringify(value));
    const all = await this.group.exchange("conformance", bytes, { timeoutMs: 60_000 });
    await this.#jitter();
    return all.map((b) => JSON.parse(decoder.decode(b)) as T);
  }
}

/** An error with its stack and causes; failed checks by their message alone. */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "CheckFailure") return error.message;
  const cause = error.cause === undefined ? "" : `\n  caused by ${explain(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
