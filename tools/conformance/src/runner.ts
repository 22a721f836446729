import { createLocalGroup, createThreadGroup } from "@moe-a2a/core";
import { type BackendUnderTest, canBlock, type GroupKind } from "./backends.js";
import type { Case, MadeCase, RankCase } from "./case.js";
import { rankCase } from "./cases/index.js";
import { CheckFailure } from "./check.js";
import { ProcessPlaces } from "./process-places.js";
import { explain, type RankResult, RankRun, RoundStore } from "./rank.js";
import { type Place, Pool, type RankHost } from "./rank-host.js";
import { RankProcess } from "./rank-process.js";
import { createNote, RankThread } from "./rank-thread.js";

/** What became of a case. */
export interface Outcome {
  readonly name: string;
  readonly backend: string;
  readonly group: GroupKind;
  readonly milliseconds: number;
  /** What differed; undefined where the case passed. */
  readonly failure?: string;
  readonly note?: string;
}

/** Time for a whole case. Generous: it only ends what hangs. */
const DEADLINE_MS = 60_000;

const isDriven = (c: Case): c is Exclude<Case, RankCase> => "drive" in c;

/** Whether a case says anything about this backend in this kind of group. */
export function applies(c: Case, target: BackendUnderTest, kind: GroupKind): boolean {
  if (c.groups && !c.groups.includes(kind)) return false;
  if (isDriven(c)) return true;
  if (c.blocks && !canBlock(target, kind)) return false;
  const has = { ...target.traits, ...(target.cuda ? { cuda: true } : {}) } as Record<string, boolean>;
  return Object.entries(c.needs ?? {}).every(([trait, value]) => has[trait] === value);
}

/** Whether the backend has room for the case's ranks here. */
export function fits(c: Case, target: BackendUnderTest): boolean {
  return isDriven(c) || c.ranks <= target.maxRanks;
}

/** Runs cases against one backend in one kind of group. */
export class Runner {
  readonly #target: BackendUnderTest;
  readonly #kind: GroupKind;
  readonly #seed: number;
  readonly #rounds: number | undefined;
  readonly #deadlineMs: number;
  readonly #jitterMs: number | undefined;
  readonly #threads = new Pool(() => new RankThread());
  readonly #processes = new Pool(() => new RankProcess());
  readonly #places = new ProcessPlaces();

  constructor(options: {
    readonly target: BackendUnderTest;
    readonly kind: GroupKind;
    readonly seed?: number;
    readonly rounds?: number | undefined;
    /** For cases without a deadline of their own. */
    readonly deadlineMs?: number | undefined;
    readonly jitterMs?: number | undefined;
  }) {
    this.#target = options.target;
    this.#kind = options.kind;
    this.#seed = options.seed ?? 1;
    this.#rounds = options.rounds;
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    this.#jitterMs = options.jitterMs;
  }

  async run(c: Case): Promise<Outcome> {
    const start = performance.now();
    let failure: string | undefined;
    let note: string | undefined;
    try {
      if (isDriven(c)) {
        note = await c.drive({
          target: this.#target,
          kind: this.#kind,
          seed: this.#seed,
          rounds: this.#rounds,
          play: (spec) => this.play(spec),
        });
      } else await this.play(c);
    } catch (error) {
      failure = explain(error);
    }
    return {
      name: c.name,
      backend: this.#target.name,
      group: this.#kind,
      milliseconds: performance.now() - start,
      ...(failure === undefined ? {} : { failure }),
      ...(note === undefined ? {} : { note }),
    };
  }

  /** Ends threads and processes. */
  async close(): Promise<void> {
    await this.#threads.close();
    await this.#processes.close();
    this.#places.close();
  }

  /** Plays a case on all ranks. @throws (rejects) what differed */
  async play(spec: RankCase | MadeCase): Promise<readonly RankResult[]> {
    const c = "run" in spec ? spec : rankCase(spec);
    const id = "run" in spec ? c.name : spec;
    const results = await (this.#kind === "local"
      ? this.#local(c)
      : this.#kind === "threads"
        ? this.#hosted(c, id, this.#threads, threadPlaces(c.ranks))
        : this.#hosted(c, id, this.#processes, await this.#processPlaces(c.ranks)));
    const failed = results
      .filter((r) => r.failure !== undefined && !(r.ended && c.dying?.includes(r.rank)))
      .sort((a, b) => a.time - b.time);
    if (failed.length === 0) return results;
    // The first failure is the cause; what other ranks report is mostly that this rank left.
    const others = failed
      .slice(1)
      .map((r) => r.rank)
      .sort((a, b) => a - b);
    throw new CheckFailure(
      `${failed[0]?.failure}${others.length ? `\n(afterwards also on ${others.map((r) => `rank ${r}`).join(", ")})` : ""}`,
    );
  }

  async #local(c: RankCase): Promise<readonly RankResult[]> {
    const notes = new Array<string>(c.ranks).fill("start");
    const store = new RoundStore(c.ranks);
    const run = {
      target: this.#target,
      kind: this.#kind,
      case: c,
      seed: this.#seed,
      jitterMs: this.#jitterMs,
    };
    const ranks = createLocalGroup(c.ranks).map(
      (group) =>
        new RankRun(run, group, store, {
          note: (where) => {
            notes[group.rank] = where;
          },
          die: () =>
            Promise.reject(new Error("ranks of a local group share this thread, which must not end")),
          pause: () => {
            throw new Error("ranks of a local group share this thread, which must not stop");
          },
          resume: () => {},
        }),
    );
    const unhandled: unknown[] = [];
    const listen = (reason: unknown) => void unhandled.push(reason);
    process.on("unhandledRejection", listen);
    try {
      const results = await this.#inTime(
        c,
        ranks.map((rank) => rank.execute()),
        (rank) => notes[rank] ?? "",
        async () => void (await Promise.all(ranks.map((rank) => rank.close()))),
      );
      // Rejections nobody handles are reported in a later turn.
      await new Promise(setImmediate);
      if (unhandled.length) throw new CheckFailure(`unhandled rejection: ${explain(unhandled[0])}`);
      return results;
    } finally {
      process.off("unhandledRejection", listen);
    }
  }

  async #processPlaces(ranks: number): Promise<Place[]> {
    const places = await this.#places.next(ranks);
    return places.map((options) => ({ kind: "processes", options }));
  }

  async #hosted<H extends RankHost>(
    c: RankCase,
    id: string | MadeCase,
    pool: Pool<H>,
    places: readonly Place[],
  ): Promise<readonly RankResult[]> {
    // A group of threads hears of the end of those that start after it; processes tell by their connections.
    const hosts = pool.take(c.ranks, this.#kind === "threads" && c.dying !== undefined);
    const job = { backend: this.#target.name, case: id, seed: this.#seed, jitterMs: this.#jitterMs };
    try {
      return await this.#inTime(
        c,
        places.map((place, rank) =>
          hosts[rank]!.start({ ...job, rank, place }, (other) => hosts[other]?.resume()),
        ),
        (rank) => hosts[rank]!.where(),
        async () => void (await Promise.all(hosts.map((host) => host.terminate()))),
      );
    } finally {
      pool.giveBack(hosts);
    }
  }

  /** Waits for all ranks; past the deadline it says which are missing and where, and ends them. */
  async #inTime(
    c: RankCase,
    pending: readonly Promise<RankResult>[],
    where: (rank: number) => string,
    end: () => Promise<void>,
  ): Promise<readonly RankResult[]> {
    const limit = c.deadlineMs ?? this.#deadlineMs;
    const done = new Map<number, RankResult>();
    const all = Promise.all(
      pending.map(async (p) => {
        const result = await p;
        done.set(result.rank, result);
      }),
    );
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), limit);
    });
    const first = await Promise.race([all, deadline]);
    clearTimeout(timer);
    if (first !== "late") return [...done.values()];
    const missing = pending.map((_, rank) => rank).filter((rank) => !done.has(rank));
    const found = missing.map((rank) => `rank ${rank} (${where(rank) || "start"})`).join(", ");
    const failures = [...done.values()].flatMap((r) => (r.failure === undefined ? [] : [r.failure]));
    await end();
    throw new CheckFailure(
      `not finished after ${limit} ms: ${found}${failures.map((f) => `\n${f}`).join("")}`,
    );
  }
}

/** Tickets first: the group hears of the end of threads that start after it. */
function threadPlaces(ranks: number): Place[] {
  return createThreadGroup(ranks).map((ticket) => ({ kind: "threads", ticket, note: createNote() }));
}
