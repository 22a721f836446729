import type { Socket } from "node:net";
import { type CpuTensor, groupInternalsOf, type MoeAllToAll } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { Link } from "../../../../packages/core/src/group/process/link.js";
import { MAX_GROUP_BYTES, MESSAGE } from "../../../../packages/core/src/group/process/messages.js";
import { ProcessGroup } from "../../../../packages/core/src/group/process/process-group.js";
import { CONFIG, LAYOUT, SIZE } from "./config.js";
import { connection, deadEnd, feed } from "./fake-socket.js";
import { dispatchOn } from "./rounds.js";

type Instance = MoeAllToAll<CpuTensor>;

/** The rank that lies, to rank 0. */
export const LIAR = 1;

function frameOf(type: number, body: Buffer): Buffer {
  const frame = Buffer.alloc(5 + body.length);
  frame.writeUInt32BE(body.length + 1, 0);
  frame.writeUInt8(type, 4);
  body.copy(frame, 5);
  return frame;
}

/** Has the memory that a group gives out kept. */
function keepMemory(group: ProcessGroup): () => Uint8Array {
  const internals = groupInternalsOf(group)!;
  const { allocate } = internals;
  let window: ArrayBufferLike | undefined;
  Object.assign(internals, {
    allocate: (bytes: number) => {
      const memory = allocate(bytes);
      window ??= memory;
      return memory;
    },
  });
  return () => new Uint8Array(window!);
}

/** Rank 0 of a group of which nobody else is real: cheap enough to be made anew for every few frames. */
export class Victim {
  readonly socket: Socket;
  readonly a2a: Instance;
  readonly #group: ProcessGroup;
  readonly #sockets: readonly Socket[];
  readonly #window: Uint8Array;
  #before: Uint8Array | undefined;

  private constructor(group: ProcessGroup, sockets: readonly Socket[], window: Uint8Array, a2a: Instance) {
    this.#group = group;
    this.#sockets = sockets;
    this.#window = window;
    this.a2a = a2a;
    this.socket = sockets[0]!;
  }

  static async make(): Promise<Victim> {
    const sockets = [deadEnd(), deadEnd()];
    const links = [undefined, ...sockets.map((socket) => new Link(socket, MAX_GROUP_BYTES))];
    const group = new ProcessGroup(0, links, () => {});
    const window = keepMemory(group);
    const creating = jsBackend.create(CONFIG, group);
    const introduction = { key: "create:0", value: { config: CONFIG, firstRound: 0 } };
    const frame = frameOf(MESSAGE.meet, Buffer.from(JSON.stringify(introduction)));
    for (const socket of sockets) feed(socket, frame);
    const a2a = await creating;
    return new Victim(group, sockets, window(), a2a);
  }

  /** Starts a round in each lane, of which nobody hears. Their failures are nobody's business. */
  dispatch(): void {
    for (const lane of [0, 1] as const)
      dispatchOn(this.a2a, 2, { lane })
        .ready()
        .catch(() => {});
  }

  /** Remembers the window. */
  snapshot(): void {
    this.#before = this.#window.slice();
  }

  /** @throws where bytes have changed that do not belong to the rank that lies */
  checkWindow(): void {
    const before = this.#before;
    if (!before) return;
    const now = this.#window;
    // As a whole first, which is quick.
    if (Buffer.compare(before, now) === 0) return;
    const changed: number[] = [];
    for (let at = 0; at < now.length; at++) if (before[at] !== now[at] && !BELONGS[at]) changed.push(at);
    if (changed.length > 0) {
      throw new Error(
        `bytes ${changed.slice(0, 8).join(", ")} of the window are not rank ${LIAR}'s to change`,
      );
    }
  }

  async close(): Promise<void> {
    await this.a2a.close();
    await this.#group.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** By byte of rank 0's window: 1 where what rank 1 sends may end up. */
const BELONGS = ((): Uint8Array => {
  const belongs = new Uint8Array(LAYOUT.windowBytes);
  const region = (start: number, bytes: number): void => void belongs.fill(1, start, start + bytes);
  const { control, abortRecords, statsRowBytes, recvBufferBytes } = LAYOUT;
  // Generation, number of verdicts and next meeting; its word for "closed"; its verdict.
  region(control, 12);
  region(control + 64 * (1 + LIAR), 4);
  region(abortRecords + 4096 * LIAR, 4096);
  for (const lane of LAYOUT.lanes) {
    region(lane.dispatchFlags + 64 * LIAR, 4);
    region(lane.combineFlags + 64 * LIAR, 4);
    region(lane.combineHeaders + 64 * LIAR, 64);
    for (const buffer of [0, 1]) {
      region(lane.dispatchHeaders + 128 * (buffer * SIZE + LIAR), 128);
      region(lane.expertStats + (buffer * SIZE + LIAR) * statsRowBytes, CONFIG.maxExpertStats * 4);
    }
    // Where a rank's rows lie there follows from the round's slots and row bytes, which it may be wrong about.
    region(lane.recv, 2 * recvBufferBytes);
    region(lane.results!, SIZE * CONFIG.maxTokensPerRank * CONFIG.maxCombineBytesPerToken);
  }
  return belongs;
})();

/** Three real ranks on this thread, with connections that bytes can be put into. */
export class Trio {
  readonly a2as: readonly Instance[];
  readonly groups: readonly ProcessGroup[];
  /** Rank 0's end of its connection to rank 1. */
  readonly socket: Socket;

  private constructor(groups: readonly ProcessGroup[], a2as: readonly Instance[], socket: Socket) {
    this.groups = groups;
    this.a2as = a2as;
    this.socket = socket;
  }

  static async make(): Promise<Trio> {
    const [zeroOne, zeroTwo, oneTwo] = [connection(), connection(), connection()];
    const link = (socket: Socket): Link => new Link(socket, MAX_GROUP_BYTES);
    const groups = [
      [undefined, link(zeroOne[0]), link(zeroTwo[0])],
      [link(zeroOne[1]), undefined, link(oneTwo[0])],
      [link(zeroTwo[1]), link(oneTwo[1]), undefined],
    ].map((links, rank) => new ProcessGroup(rank, links, () => {}));
    const a2as = await Promise.all(groups.map((group) => jsBackend.create(CONFIG, group)));
    return new Trio(groups, a2as, zeroOne[0]);
  }

  async close(): Promise<void> {
    await Promise.all(this.a2as.map((a2a) => a2a.close()));
    await Promise.all(this.groups.map((group) => group.close()));
  }
}
