import { checkGroupSize, Exchange } from "./exchange.js";
import type { PeerState } from "./gathering.js";
import type { Group } from "./group.js";
import { defineGroupInternals } from "./internals.js";
import { Rendezvous } from "./rendezvous.js";
import { TurnBell } from "./turn-bell.js";

/** What the ranks of one local group share. */
class LocalHub {
  readonly states: PeerState[];
  readonly bells: readonly TurnBell[];
  readonly rendezvous: Rendezvous[] = [];

  constructor(size: number) {
    this.states = new Array<PeerState>(size).fill("joined");
    this.bells = Array.from({ length: size }, () => new TurnBell());
  }
}

class LocalGroup implements Group {
  readonly rank: number;
  readonly size: number;
  readonly #hub: LocalHub;
  readonly #exchange: Exchange;
  #instances = 0;

  constructor(rank: number, size: number, hub: LocalHub) {
    this.rank = rank;
    this.size = size;
    this.#hub = hub;
    const rendezvous = new Rendezvous({
      rank,
      size,
      // Messages arrive as they are posted.
      drain: () => {},
      peerState: (peer) => hub.states[peer] as PeerState,
      post: (message) => {
        for (const [peer, other] of hub.rendezvous.entries()) if (peer !== rank) other.receive(message);
      },
    });
    hub.rendezvous[rank] = rendezvous;
    this.#exchange = new Exchange(rank, rendezvous);
    defineGroupInternals(this, {
      kind: "local",
      canBlock: false,
      allocate: (byteLength) => new ArrayBuffer(byteLength),
      gatherings: rendezvous,
      nextInstance: () => this.#instances++,
      peerState: (peer) => hub.states[peer] as PeerState,
      bell: hub.bells[rank] as TurnBell,
      ring: (peer) => hub.bells[peer]?.ring(),
      ringArrival: (peer) => hub.bells[peer]?.ring(),
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
    const hub = this.#hub;
    if (hub.states[this.rank] === "closed") return;
    hub.states[this.rank] = "closed";
    hub.rendezvous[this.rank]?.close();
    for (const [peer, other] of hub.rendezvous.entries()) {
      if (peer !== this.rank) other.receive({ kind: "gone", from: this.rank });
    }
    for (const bell of hub.bells) bell.ring();
  }
}

/**
 * A group whose ranks all live on the calling thread.
 *
 * @param size ranks, 1…64
 * @returns one group per rank, by rank
 */
export function createLocalGroup(size: number): Group[] {
  const ranks = checkGroupSize(size);
  const hub = new LocalHub(ranks);
  return Array.from({ length: ranks }, (_, rank) => new LocalGroup(rank, ranks, hub));
}
