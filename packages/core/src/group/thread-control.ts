import type { PeerState } from "./gathering.js";

/** Words of a rank: 64 bytes, so that bells do not share a cache line. */
const STRIDE = 16;
const STATE = 0;
const THREAD = 1;
/** Counts rings. */
const BELL = 2;
/** Whether the rank's thread sleeps. */
const SLEEPS = 3;
/** The bell from which on an arrival wakes it. */
const TARGET = 4;
/** What a sleeping thread waits on: changes with every ring that is for it. */
const WAKE = 5;
/** Whether it listens to its bell without blocking. */
const LISTENS = 6;

const states: readonly PeerState[] = ["absent", "joined", "closed", "lost"];

/** The few words that the ranks of a thread group and the thread that made it share. */
export class ThreadControl {
  readonly words: Int32Array;
  readonly size: number;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
    this.size = this.words.length / STRIDE;
  }

  static create(size: number): SharedArrayBuffer {
    return new SharedArrayBuffer(size * STRIDE * 4);
  }

  state(rank: number): PeerState {
    return states[Atomics.load(this.words, rank * STRIDE + STATE)] ?? "absent";
  }

  /** Thread that the rank joined on, or -1. */
  threadOf(rank: number): number {
    return Atomics.load(this.words, rank * STRIDE + THREAD) - 1;
  }

  /** Moves a rank from one state to another; false where it was in none of `from`. */
  move(rank: number, from: PeerState, to: PeerState): boolean {
    const index = rank * STRIDE + STATE;
    const expected = states.indexOf(from);
    return Atomics.compareExchange(this.words, index, expected, states.indexOf(to)) === expected;
  }

  join(rank: number, threadId: number): boolean {
    if (!this.move(rank, "absent", "joined")) return false;
    Atomics.store(this.words, rank * STRIDE + THREAD, threadId + 1);
    return true;
  }

  bellIndex(rank: number): number {
    return rank * STRIDE + BELL;
  }

  /** Something happened that the rank has to look at. */
  ring(rank: number): void {
    const { words } = this;
    const base = rank * STRIDE;
    Atomics.add(words, base + BELL, 1);
    // Also where it does not sleep: it may be about to.
    Atomics.add(words, base + WAKE, 1);
    if (Atomics.load(words, base + SLEEPS) !== 0) Atomics.notify(words, base + WAKE);
    if (Atomics.load(words, base + LISTENS) !== 0) Atomics.notify(words, base + BELL);
  }

  /** One more of those has arrived whom the rank may be waiting for: wakes it only if it was told to wake for so many. */
  ringArrival(rank: number): void {
    const { words } = this;
    const base = rank * STRIDE;
    const bell = Atomics.add(words, base + BELL, 1) + 1;
    if (Atomics.load(words, base + SLEEPS) !== 0 && ((bell - Atomics.load(words, base + TARGET)) | 0) >= 0) {
      Atomics.add(words, base + WAKE, 1);
      Atomics.notify(words, base + WAKE);
    }
    if (Atomics.load(words, base + LISTENS) !== 0) Atomics.notify(words, base + BELL);
  }

  /** What {@link sleep} has to be given, read before looking whether there is anything to sleep for. */
  bellOf(rank: number): number {
    return Atomics.load(this.words, this.bellIndex(rank));
  }

  wakeOf(rank: number): number {
    return Atomics.load(this.words, rank * STRIDE + WAKE);
  }

  /**
   * Puts the rank's thread to sleep until a ring, or until so many have arrived, or for `ms`; may end before.
   *
   * @param bell what `bellOf` said before the rank saw that `arrivals` are missing
   * @param wake what `wakeOf` said then
   */
  sleep(rank: number, bell: number, wake: number, arrivals: number, ms: number): void {
    const { words } = this;
    const base = rank * STRIDE;
    const target = (bell + arrivals) | 0;
    Atomics.store(words, base + TARGET, target);
    Atomics.store(words, base + SLEEPS, 1);
    // Who arrived before this thread said that it sleeps has not woken it.
    if (((Atomics.load(words, base + BELL) - target) | 0) < 0) Atomics.wait(words, base + WAKE, wake, ms);
    Atomics.store(words, base + SLEEPS, 0);
  }

  /** Says whether the rank listens for rings without blocking. */
  listen(rank: number, listens: boolean): void {
    Atomics.store(this.words, rank * STRIDE + LISTENS, listens ? 1 : 0);
  }

  ringAll(): void {
    for (let rank = 0; rank < this.size; rank++) this.ring(rank);
  }
}
