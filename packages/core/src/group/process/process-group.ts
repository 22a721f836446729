import { MoeA2AError } from "../../errors.js";
import { Exchange } from "../exchange.js";
import type { PeerState } from "../gathering.js";
import type { Group } from "../group.js";
import { defineGroupInternals } from "../internals.js";
import { Rendezvous } from "../rendezvous.js";
import { TurnBell } from "../turn-bell.js";
import { CatchUp } from "./catch-up.js";
import { InstanceChannels } from "./instance-channel.js";
import type { Link } from "./link.js";
import {
  MAX_GROUP_BYTES,
  MAX_KEY_BYTES,
  MAX_VALUE_BYTES,
  MESSAGE,
  readGroupMessage,
  sendGroupMessage,
} from "./messages.js";

/** Leaves room for what the exchange adds to a key. */
const KEY_LIMIT = MAX_KEY_BYTES - 64;

/** A group over a link to each other rank. */
export class ProcessGroup implements Group {
  readonly rank: number;
  readonly size: number;
  readonly #links: readonly (Link | undefined)[];
  readonly #states: PeerState[];
  readonly #rendezvous: Rendezvous;
  readonly #exchange: Exchange;
  readonly #bell = new TurnBell();
  readonly #catchUp = new CatchUp(() => this.#received);
  #instances = 0;
  #received = 0;
  readonly #onClose: () => void;

  /**
   * @param links by rank; none for this rank's own
   * @param onClose called when this rank leaves
   */
  constructor(rank: number, links: readonly (Link | undefined)[], onClose: () => void) {
    this.#onClose = onClose;
    this.rank = rank;
    this.size = links.length;
    this.#links = links;
    this.#states = new Array<PeerState>(links.length).fill("joined");
    this.#rendezvous = new Rendezvous({
      rank,
      size: links.length,
      peerState: (peer) => this.#states[peer] as PeerState,
      post: (message) => {
        for (const link of links) if (link) sendGroupMessage(link, message);
      },
      // A socket cannot be read without returning to the event loop; what ended is known only after what it brought.
      drain: () => {},
      afterCatchingUp: (then) => this.#catchUp.after(then),
      distrust: (peer) => links[peer]?.lose(),
    });
    this.#exchange = new Exchange(rank, this.#rendezvous);
    const channels = new InstanceChannels(links);
    for (const [peer, link] of links.entries()) {
      // What waits keeps the process alive by its timer; an idle group does not.
      link?.unref();
      link?.listen(
        {
          message: (type, body) => {
            this.#received++;
            if (type === MESSAGE.instance) channels.receive(peer, body);
            else this.#rendezvous.receive(readGroupMessage(type, body, peer));
          },
          ended: (orderly) => {
            this.#states[peer] = orderly ? "closed" : "lost";
            this.#rendezvous.receive({ kind: "gone", from: peer });
            this.#bell.ring();
          },
        },
        MAX_GROUP_BYTES,
      );
    }
    defineGroupInternals(this, {
      kind: "processes",
      canBlock: false,
      allocate: (byteLength) => new ArrayBuffer(byteLength),
      gatherings: this.#rendezvous,
      nextInstance: () => this.#instances++,
      peerState: (peer) => this.#states[peer] as PeerState,
      bell: this.#bell,
      ring: (peer) => {
        if (peer === rank) this.#bell.ring();
      },
      // Arrivals of others come as messages.
      ringArrival: () => {},
      afterCatchingUp: (then) => this.#catchUp.after(then),
      openChannel: (instance) => channels.open(instance),
    });
  }

  async exchange(
    key: string,
    value: Uint8Array,
    options?: { readonly timeoutMs?: number },
  ): Promise<readonly Uint8Array[]> {
    // Anything else is for the exchange to refuse.
    const keyBytes = typeof key === "string" ? Buffer.byteLength(key) : 0;
    if (keyBytes > KEY_LIMIT) {
      throw new MoeA2AError(
        "ERR_MOE_A2A_ARGUMENT",
        `exchange(): the key has ${keyBytes} bytes; at most ${KEY_LIMIT} travel between processes`,
        { argument: "key" },
      );
    }
    if (value instanceof Uint8Array && value.length > MAX_VALUE_BYTES) {
      throw new MoeA2AError(
        "ERR_MOE_A2A_ARGUMENT",
        `exchange(${JSON.stringify(key)}): the value has ${value.length} bytes; at most ${MAX_VALUE_BYTES} travel between ` +
          "processes at once",
        { argument: "value" },
      );
    }
    return this.#exchange.exchange(key, value, options);
  }

  async close(): Promise<void> {
    if (this.#states[this.rank] === "closed") return;
    this.#states[this.rank] = "closed";
    this.#rendezvous.close();
    for (const link of this.#links) link?.close();
    this.#onClose();
    this.#bell.ring();
  }
}
