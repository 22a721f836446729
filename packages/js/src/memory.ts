import type { CombineDType, WorkspaceLayout } from "@moe-a2a/core";

/** Views of one rank's window, as its peers and itself see it. */
export class Window {
  readonly memory: ArrayBufferLike;
  readonly bytes: Uint8Array;
  readonly halves: Uint16Array;
  readonly words: Int32Array;
  readonly floats: Float32Array;

  constructor(memory: ArrayBufferLike) {
    this.memory = memory;
    this.bytes = new Uint8Array(memory);
    this.halves = new Uint16Array(memory);
    this.words = new Int32Array(memory);
    this.floats = new Float32Array(memory);
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
