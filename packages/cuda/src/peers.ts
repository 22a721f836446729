import {
  type GroupInternals,
  type Introduction,
  introduce,
  type MissingKind,
  type MoeA2AError,
  ResetMeetings,
} from "@moe-a2a/core";
import { type PeerWords, SharedWords, ToldWords, WORDS_BYTES } from "./peer-words.js";

/** What ranks tell one another before they allocate. */
export interface CudaIntroduction extends Introduction {
  readonly device: number;
  /** Names the GPU in every process of the host. */
  readonly gpu: string;
  /** Names the host. */
  readonly host: string;
  /** Names the instance; that of rank 0 counts. */
  readonly key: string;
  /** The most multiprocessors that its phases take; 0: all. */
  readonly maxSms: number;
  /** This rank's words, where ranks share memory. */
  readonly words: ArrayBufferLike | undefined;
}

const NOBODY = { closed: 0n, lost: 0n } as const;

/** The other ranks of an instance, as far as the host knows of them. */
export class Peers {
  readonly rank: number;
  readonly introductions: readonly CudaIntroduction[];
  readonly meetings: ResetMeetings;
  /** Whether the other ranks live in other processes. */
  readonly areElsewhere: boolean;
  readonly #group: GroupInternals;
  readonly #instance: number;
  readonly #words: PeerWords;
  /** Ranks in other processes that have ended, as masks. */
  #look: () => { readonly closed: bigint; readonly lost: bigint } = () => NOBODY;

  private constructor(
    group: GroupInternals,
    rank: number,
    instance: number,
    introductions: readonly CudaIntroduction[],
    words: PeerWords,
  ) {
    this.rank = rank;
    this.introductions = introductions;
    this.areElsewhere = group.kind === "processes";
    this.#group = group;
    this.#instance = instance;
    this.#words = words;
    this.meetings = new ResetMeetings({
      rank,
      epSize: introductions.length,
      instance,
      gatherings: group.gatherings,
      words: { load: (r) => words.meetingOf(r), store: (number) => words.setMeeting(number) },
      departure: (peer) => this.departure(peer),
    });
  }

  /** @throws (rejects) as `create()` does where ranks are missing or differ */
  static async meet(
    group: GroupInternals,
    rank: number,
    mine: Omit<CudaIntroduction, "words">,
  ): Promise<Peers> {
    const words = group.kind === "processes" ? undefined : group.allocate(WORDS_BYTES);
    const met = await introduce<CudaIntroduction>(group, rank, { ...mine, words });
    const { instance, introductions, channel } = met;
    const shared = () =>
      new SharedWords(
        rank,
        introductions.map((introduction) => introduction.words!),
      );
    const known = channel ? new ToldWords(rank, introductions.length, channel) : shared();
    return new Peers(group, rank, instance, introductions, known);
  }

  get #windowsKey(): string {
    return `create:${this.#instance}:windows`;
  }

  /** Gathers how ranks get to one another's windows: plain data between processes. */
  gatherWindows<T>(window: T, timeoutMs: number): Promise<T[]> {
    return this.#group.gatherings.gather<T>(this.#windowsKey, window, {
      timeoutMs,
      phase: "create",
      where: "create",
    });
  }

  /** Has {@link departure} also ask `look`, which knows without the event loop who has ended. */
  watch(look: () => { readonly closed: bigint; readonly lost: bigint }): void {
    this.#look = look;
  }

  /** Has the other ranks' `create()` fail as this one's does. */
  giveUpWindows(error: MoeA2AError): void {
    this.#group.gatherings.giveUp(this.#windowsKey, error);
  }

  /** Whether `peer` has left for good: its instance or group closed, or its thread or process ended. */
  departure(peer: number): MissingKind | undefined {
    const state = this.#group.peerState(peer);
    if (state === "lost" || state === "closed") return state;
    if (this.#words.hasClosed(peer)) return "closed";
    const { closed, lost } = this.#look();
    if ((closed >> BigInt(peer)) & 1n) return "closed";
    return (lost >> BigInt(peer)) & 1n ? "lost" : undefined;
  }

  /** Generation of this rank, which resets of others raise too. */
  get generation(): number {
    return this.#words.generation;
  }

  /** Raises this rank's generation and that of ranks that are left out. */
  raiseGeneration(generation: number, activeRanks: readonly number[]): void {
    this.#words.setGeneration(generation);
    for (let peer = 0; peer < this.introductions.length; peer++) {
      if (peer !== this.rank && !activeRanks.includes(peer)) this.#words.raiseGeneration(peer, generation);
    }
  }

  announceClose(): void {
    this.#words.announceClose();
    this.#group.gatherings.announceDeparture();
  }
}
