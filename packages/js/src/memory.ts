import type { CombineDType, WorkspaceLayout } from "@moe-a2a/core";

/** Views of one rank's window, as its peers and itself see it. */
export class Window {
  readonly memory: ArrayBufferLike;
  readonly bytes: Uint8Array;
  readonly halves: Uint16Array;
  readonly words: Int32Array;
  readonly floats: Float32Array;
  /** Whether other threads see it; without any, plain accesses do, at a fraction of the cost. */
  readonly isShared: boolean;

  constructor(memory: ArrayBufferLike) {
    this.memory = memory;
    this.isShared = memory instanceof SharedArrayBuffer;
    this.bytes = new Uint8Array(memory);
    this.halves = new Uint16Array(memory);
    this.words = new Int32Array(memory);
    this.floats = new Float32Array(memory);
  }

  /** Reads a word that others store; what they wrote before storing it is then visible. */
  load(word: number): number {
    return this.isShared ? Atomics.load(this.words, word) : this.words[word]!;
  }

  /** Stores a word that others read; it vouches for everything written before it. */
  store(word: number, value: number): void {
    if (this.isShared) Atomics.store(this.words, word, value);
    else this.words[word] = value;
  }

  /** Reads a word after all reads before this one: as a read-modify-write, which a plain atomic load would not do. */
  loadLast(word: number): number {
    return this.isShared ? Atomics.add(this.words, word, 0) : this.words[word]!;
  }

  /** The view whose elements are rows of `dtype`. */
  rows(dtype: CombineDType): Float32Array | Uint16Array {
    return dtype === "float32" ? this.floats : this.halves;
  }
}

/** Word indices of the control region. */
export class ControlWords {
  /** Counts abort records that peers wrote since the last reset. */
  readonly aborts: number;
  /** Generation of the window: raised by every reset, also by one that leaves this rank out. */
  readonly generation: number;
  /** Number of the next reset that this rank can join; failed ones are used up. */
  readonly meeting: number;

  constructor(layout: WorkspaceLayout) {
    this.generation = layout.control / 4;
    this.aborts = layout.control / 4 + 1;
    this.meeting = layout.control / 4 + 2;
  }

  /** Word that rank `peer` sets when it closes its instance. */
  closed(layout: WorkspaceLayout, peer: number): number {
    return layout.control / 4 + 16 * (1 + peer);
  }
}
