import type { PeerState } from "./gathering.js";

/** Words of a rank: 64 bytes, so that bells do not share a cache line. */
const STRIDE = 16;
const STATE = 0;
const THREAD = 1;
const BELL = 2;

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

  ring(rank: number): void {
    const index = this.bellIndex(rank);
    Atomics.add(this.words, index, 1);
    Atomics.notify(this.words, index);
  }

  ringAll(): void {
    for (let rank = 0; rank < this.size; rank++) this.ring(rank);
  }
}
