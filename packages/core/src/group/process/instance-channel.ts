import { type Channel, type LazyMessage, MalformedMessage } from "../internals.js";
import type { Link } from "./link.js";
import { MESSAGE } from "./messages.js";

/** The instance's number and the kind of message. */
const HEAD_BYTES = 5;

type Receive = (from: number, type: number, body: Uint8Array) => void;

/** One rank's end of the channel of an instance, over the group's links. */
class InstanceChannel implements Channel {
  readonly #instance: number;
  readonly #links: readonly (Link | undefined)[];
  readonly #leave: () => void;
  #receive: Receive | undefined;
  /** What came before anybody listened: peers may know of this rank before it knows of them. */
  #early: Parameters<Receive>[] = [];
  /** Ranks among whose early messages was one that they must not send. */
  readonly #lost = new Set<number>();

  constructor(instance: number, links: readonly (Link | undefined)[], leave: () => void) {
    this.#instance = instance;
    this.#links = links;
    this.#leave = leave;
  }

  listen(receive: Receive): void {
    this.#receive = receive;
    for (const [from, type, body] of this.#early.splice(0)) {
      try {
        // As if it came now, from a link that an earlier message has not ended.
        if (!this.#lost.has(from)) receive(from, type, body);
      } catch (error) {
        this.#lost.add(from);
        this.#links[from]?.lose();
        if (!(error instanceof MalformedMessage)) throw error;
      }
    }
  }

  receive(from: number, type: number, body: Buffer): void {
    if (this.#receive) this.#receive(from, type, body);
    else this.#early.push([from, type, body]);
  }

  send(to: number, type: number, body: Uint8Array): void {
    const head = Buffer.allocUnsafe(HEAD_BYTES);
    this.#writeHead(head, type);
    this.#links[to]?.send(MESSAGE.instance, Buffer.concat([head, body]));
  }

  sendLazily(
    to: number,
    type: number,
    message: { readonly head: Uint8Array; readonly bytes: number; fill(target: Uint8Array): void },
    sent?: () => void,
  ): LazyMessage {
    const { head, bytes } = message;
    const start = HEAD_BYTES + head.length;
    const fill = (body: Buffer): void => {
      this.#writeHead(body, type);
      body.set(head, HEAD_BYTES);
      message.fill(body.subarray(start));
    };
    const link = this.#links[to];
    if (!link) throw new Error(`rank ${to} has no link`);
    return link.sendLazily(MESSAGE.instance, start + bytes, fill, sent);
  }

  close(): void {
    this.#receive = () => {};
    this.#early = [];
    this.#leave();
  }

  #writeHead(target: Buffer, type: number): void {
    target.writeUInt32BE(this.#instance, 0);
    target.writeUInt8(type, 4);
  }
}

/** The channels of a group's instances. */
export class InstanceChannels {
  readonly #links: readonly (Link | undefined)[];
  readonly #open = new Map<number, InstanceChannel>();

  constructor(links: readonly (Link | undefined)[]) {
    this.#links = links;
  }

  open(instance: number): Channel {
    const channel = new InstanceChannel(instance, this.#links, () => this.#open.delete(instance));
    this.#open.set(instance, channel);
    return channel;
  }

  /** Hands on a message of {@link MESSAGE.instance}; those of instances that are closed here go nowhere. */
  receive(from: number, body: Buffer): void {
    if (body.length < HEAD_BYTES) throw new MalformedMessage("a message without instance");
    this.#open.get(body.readUInt32BE(0))?.receive(from, body.readUInt8(4), body.subarray(HEAD_BYTES));
  }
}
