import { randomUUID } from "node:crypto";
import { BroadcastChannel, type MessagePort, receiveMessageOnPort, threadId } from "node:worker_threads";
import { MoeA2AError } from "../errors.js";
import { describe } from "../tensor.js";
import { checkGroupSize, Exchange } from "./exchange.js";
import type { GroupMessage } from "./gathering.js";
import type { Group } from "./group.js";
import { defineGroupInternals } from "./internals.js";
import { Rendezvous } from "./rendezvous.js";
import { ThreadBell } from "./thread-bell.js";
import { ThreadControl } from "./thread-control.js";
import { watchThreads } from "./thread-watch.js";

/** Admits one rank to a thread group; pass it to the rank's worker in `workerData` or a message. */
export interface ThreadTicket {
  readonly kind: "moe-a2a.thread-ticket";
  readonly id: string;
  readonly rank: number;
  readonly size: number;
  readonly control: SharedArrayBuffer;
}

const channelName = (id: string): string => `moe-a2a:${id}`;

/** Says over the group's channel, on behalf of `rank`, that it is gone. */
function announceGone(id: string, rank: number): void {
  const channel = new BroadcastChannel(channelName(id));
  channel.postMessage({ kind: "gone", from: rank } satisfies GroupMessage);
  channel.close();
}

/**
 * A group whose ranks live on worker threads of this process.
 *
 * Workers that the calling thread starts are watched: one that ends without closing is reported to its peers at once.
 * Others, unless they end by themselves, are missed only when a time limit passes.
 *
 * @param size ranks, 1…64
 * @returns one ticket per rank, by rank, for `joinThreadGroup`
 */
export function createThreadGroup(size: number): ThreadTicket[] {
  const ranks = checkGroupSize(size);
  const id = randomUUID();
  const control = ThreadControl.create(ranks);
  watchThreads(new ThreadControl(control), (rank) => announceGone(id, rank));
  return Array.from({ length: ranks }, (_, rank) => ({
    kind: "moe-a2a.thread-ticket",
    id,
    rank,
    size: ranks,
    control,
  }));
}

class ThreadGroup implements Group {
  readonly rank: number;
  readonly size: number;
  readonly #control: ThreadControl;
  readonly #channel: BroadcastChannel;
  readonly #rendezvous: Rendezvous;
  readonly #exchange: Exchange;
  readonly #unwatch: () => void;
  #instances = 0;

  constructor({ id, rank, size }: ThreadTicket, control: ThreadControl) {
    this.rank = rank;
    this.size = size;
    this.#control = control;
    const channel = new BroadcastChannel(channelName(id));
    this.#channel = channel;
    const rendezvous = new Rendezvous({
      rank,
      size,
      peerState: (peer) => control.state(peer),
      post: (message) => channel.postMessage(message),
      drain: () => {
        // Node takes a BroadcastChannel here too, which its types do not say.
        const port = channel as unknown as MessagePort;
        for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
          rendezvous.receive(next.message as GroupMessage);
        }
      },
    });
    this.#rendezvous = rendezvous;
    channel.onmessage = (event) => rendezvous.receive((event as { data: GroupMessage }).data);
    // What waits keeps the process alive by its timer; an idle group does not.
    channel.unref();
    channel.postMessage({ kind: "hello", from: rank } satisfies GroupMessage);
    this.#exchange = new Exchange(rank, rendezvous);
    this.#unwatch = watchThreads(control, (lost) => announceGone(id, lost));
    defineGroupInternals(this, {
      kind: "threads",
      canBlock: true,
      allocate: (byteLength) => new SharedArrayBuffer(byteLength),
      gatherings: rendezvous,
      nextInstance: () => this.#instances++,
      peerState: (peer) => control.state(peer),
      bell: new ThreadBell(control, rank),
      ring: (peer) => control.ring(peer),
      ringArrival: (peer) => control.ringArrival(peer),
    });
  }

  exchange(
    key: string,
    value: Uint8Array,
    options?: { readonly timeoutMs?: number },
  ): Promise<readonly Uint8Array[]> {
    return this.#exchange.exchange(key, value, options);
  }

  async close(): Promise<void> {
    if (!this.#control.move(this.rank, "joined", "closed")) return;
    this.#unwatch();
    this.#rendezvous.close();
    this.#channel.postMessage({ kind: "gone", from: this.rank } satisfies GroupMessage);
    this.#channel.close();
    this.#control.ringAll();
  }
}

/** A ticket's fields, each read once and checked; undefined for something else. */
function readTicket(value: unknown): ThreadTicket | undefined {
  const { kind, id, rank, size, control } = (value ?? {}) as Partial<ThreadTicket>;
  const isTicket =
    kind === "moe-a2a.thread-ticket" &&
    typeof id === "string" &&
    control instanceof SharedArrayBuffer &&
    control.byteLength % 4 === 0 &&
    new ThreadControl(control).size === size &&
    Number.isInteger(rank) &&
    (rank as number) >= 0 &&
    (rank as number) < size;
  return isTicket ? { kind, id, rank: rank as number, size, control } : undefined;
}

/**
 * Joins a thread group as the ticket's rank, on the calling thread.
 *
 * @throws ERR_MOE_A2A_ARGUMENT for something that is no ticket; ERR_MOE_A2A_STATE where the rank was taken already
 */
export function joinThreadGroup(given: ThreadTicket): Group {
  const ticket = readTicket(given);
  if (!ticket) {
    throw new MoeA2AError(
      "ERR_MOE_A2A_ARGUMENT",
      `joinThreadGroup() takes a ticket of createThreadGroup(), not ${describe(given)}`,
      { argument: "ticket" },
    );
  }
  const control = new ThreadControl(ticket.control);
  if (!control.join(ticket.rank, threadId)) {
    const state = control.state(ticket.rank);
    const held = state === "joined" ? ` on thread ${control.threadOf(ticket.rank)}` : "";
    throw new MoeA2AError(
      "ERR_MOE_A2A_STATE",
      `rank ${ticket.rank} of this group has ${state === "lost" ? "been lost" : state}${held} already; ` +
        "a ticket joins once, and a rank that left needs a new group",
      { state },
    );
  }
  return new ThreadGroup(ticket, control);
}
