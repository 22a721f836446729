import {
  type Introduction,
  introduce,
  type GroupInternals,
  type MissingKind,
  type MoeA2AError,
  ResetMeetings,
} from "@moe-a2a/core";

/** What ranks tell one another before they allocate. */
export interface CudaIntroduction extends Introduction {
  readonly device: number;
  /** Names the instance; that of rank 0 counts. */
  readonly key: string;
  /** This rank's {@link WORDS}. */
  readonly words: ArrayBufferLike;
}

/** Words of host memory by which ranks know of one another, without asking a GPU. */
const WORDS = { generation: 0, meeting: 1, closed: 2, count: 4 } as const;

/** The other ranks of an instance, as far as the host knows of them: all that needs memory that they share. */
export class Peers {
  readonly rank: number;
  readonly introductions: readonly CudaIntroduction[];
  readonly meetings: ResetMeetings;
  readonly #group: GroupInternals;
  readonly #instance: number;
  readonly #words: readonly Int32Array[];

  private constructor(
    group: GroupInternals,
    rank: number,
    instance: number,
    introductions: readonly CudaIntroduction[],
  ) {
    this.rank = rank;
    this.introductions = introductions;
    this.#group = group;
    this.#instance = instance;
    this.#words = introductions.map(({ words }) => new Int32Array(words));
    this.meetings = new ResetMeetings({
      rank,
      epSize: introductions.length,
      instance,
      gatherings: group.gatherings,
      words: {
        load: (r) => Atomics.load(this.#words[r]!, WORDS.meeting),
        store: (number) => void Atomics.store(this.#words[rank]!, WORDS.meeting, number),
      },
      departure: (peer) => this.departure(peer),
    });
  }

  /** @throws (rejects) as `create()` does where ranks are missing or differ */
  static async meet(
    group: GroupInternals,
    rank: number,
    mine: Omit<CudaIntroduction, "words">,
  ): Promise<Peers> {
    const words = group.allocate(WORDS.count * 4);
    const { instance, introductions } = await introduce<CudaIntroduction>(group, rank, { ...mine, words });
    return new Peers(group, rank, instance, introductions);
  }

  get #windowsKey(): string {
    return `create:${this.#instance}:windows`;
  }

  /** Gathers the addresses of the windows. */
  gatherWindows(window: bigint, timeoutMs: number): Promise<bigint[]> {
    return this.#group.gatherings.gather<bigint>(this.#windowsKey, window, {
      timeoutMs,
      phase: "create",
      where: "create",
    });
  }

  /** Has the other ranks' `create()` fail as this one's does. */
  giveUpWindows(error: MoeA2AError): void {
    this.#group.gatherings.giveUp(this.#windowsKey, error);
  }

  /** Whether `peer` has left for good: its instance or group closed, or its thread ended. */
  departure(peer: number): MissingKind | undefined {
    const state = this.#group.peerState(peer);
    if (state === "lost" || state === "closed") return state;
    return Atomics.load(this.#words[peer]!, WORDS.closed) === 0 ? undefined : "closed";
  }

  /** Generation of this rank, which resets of others raise too. */
  get generation(): number {
    return Atomics.load(this.#words[this.rank]!, WORDS.generation);
  }

  /** Raises this rank's generation and that of ranks that are left out. */
  raiseGeneration(generation: number, activeRanks: readonly number[]): void {
    for (const [peer, words] of this.#words.entries()) {
      if (peer !== this.rank && activeRanks.includes(peer)) continue;
      Atomics.store(words, WORDS.generation, generation);
    }
  }

  announceClose(): void {
    Atomics.store(this.#words[this.rank]!, WORDS.closed, 1);
    this.#group.gatherings.announceDeparture();
  }
}
