import type { Socket } from "node:net";
import { type LazyMessage, MalformedMessage } from "../internals.js";

/** What a link tells whoever listens to it. */
export interface LinkListener {
  /** A message came, in the order in which the peer sent them. A {@link MalformedMessage} from here ends the link. */
  message(type: number, body: Buffer): void;
  /** No more will come: the peer said goodbye (`orderly`), or the connection was lost. Called once. */
  ended(orderly: boolean): void;
}

/** Length of type and body, then the type. */
const HEADER_BYTES = 5;
/** The most that a frame carries; longer messages go in several, so that memory follows what has arrived. */
const MAX_FRAME_BYTES = 2 ** 20;
/** Set in the type of a frame that another of the same message follows. */
const MORE = 0x80;
const GOODBYE = 0x7f;
/** Milliseconds without progress after which a link that is ending is cut; Node may take twice as long to notice. */
const LINGER_MS = 5_000;
const KEEP_ALIVE_MS = 10_000;

/** A frame that waits for its turn. */
class Frame implements LazyMessage {
  #bytes: Buffer | undefined;
  #fill: ((target: Buffer) => void) | undefined;
  readonly #length: number;
  readonly sent: (() => void) | undefined;

  /** @param length of the whole frame, its header included, which `fill` writes */
  constructor(length: number, fill: (target: Buffer) => void, sent: (() => void) | undefined) {
    this.#length = length;
    this.#fill = fill;
    this.sent = sent;
  }

  fillNow(): void {
    if (!this.#fill) return;
    this.#bytes = Buffer.allocUnsafe(this.#length);
    this.#fill(this.#bytes);
    this.#fill = undefined;
  }

  /** Its bytes, which are the socket's from now on: whoever keeps the frame keeps no memory. */
  take(): Buffer {
    this.fillNow();
    const bytes = this.#bytes as Buffer;
    this.#bytes = undefined;
    return bytes;
  }

  /** Lets go of everything: it will not be sent. */
  drop(): void {
    this.#fill = undefined;
    this.#bytes = undefined;
  }
}

function writeHeader(frame: Buffer, type: number): void {
  frame.writeUInt32BE(frame.length - HEADER_BYTES + 1, 0);
  frame.writeUInt8(type, 4);
}

/** Messages of bounded size over an authenticated socket, in order, as fast as the peer takes them. */
export class Link {
  readonly #socket: Socket;
  #listener: LinkListener | undefined;
  #messageLimit: number;
  #incoming: Buffer[] = [];
  #incomingBytes = 0;
  #parts: Buffer[] = [];
  #partBytes = 0;
  readonly #outgoing: Frame[] = [];
  #blocked = false;
  #finishing = false;
  /** How the peer's side ended, once it has. */
  #end: { readonly orderly: boolean } | undefined;

  /** Nothing is read before {@link listen}. */
  constructor(socket: Socket, messageLimit: number) {
    this.#socket = socket;
    this.#messageLimit = messageLimit;
    socket.pause();
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    // What follows an error is `close`.
    socket.on("error", () => {});
    socket.on("end", () => this.#ended(false));
    socket.on("close", () => {
      this.#dropOutgoing();
      this.#ended(false);
    });
    socket.on("drain", () => {
      this.#blocked = false;
      this.#pump();
    });
  }

  /** Has messages up to `messageLimit` bytes delivered from now on; without a listener they wait unread. */
  listen(listener: LinkListener | undefined, messageLimit = this.#messageLimit): void {
    this.#listener = listener;
    this.#messageLimit = messageLimit;
    if (!listener) {
      this.#socket.pause();
      return;
    }
    this.#deliver();
    if (this.#listener !== listener) return;
    if (this.#end) this.#tellEnd();
    else this.#socket.resume();
  }

  /** Sends one message, its body in parts, which must not change any more. */
  send(type: number, ...parts: readonly Uint8Array[]): void {
    if (this.#isOver()) return;
    const bodies: Uint8Array[] = [];
    for (const part of parts.length === 0 ? [new Uint8Array(0)] : parts) {
      let offset = 0;
      do {
        bodies.push(part.subarray(offset, offset + MAX_FRAME_BYTES));
        offset += MAX_FRAME_BYTES;
      } while (offset < part.length);
    }
    for (const [i, body] of bodies.entries()) {
      const fill = (frame: Buffer): void => {
        writeHeader(frame, i + 1 < bodies.length ? type | MORE : type);
        frame.set(body, HEADER_BYTES);
      };
      this.#outgoing.push(new Frame(HEADER_BYTES + body.length, fill, undefined));
    }
    this.#pump();
  }

  /**
   * Sends one message of at most {@link MAX_FRAME_BYTES}, which `fill` writes when its turn comes.
   *
   * @param sent called once the system has taken the message; never where the connection ends before
   */
  sendLazily(type: number, bytes: number, fill: (body: Buffer) => void, sent?: () => void): LazyMessage {
    const whole = (frame: Buffer): void => {
      writeHeader(frame, type);
      fill(frame.subarray(HEADER_BYTES));
    };
    const frame = new Frame(HEADER_BYTES + bytes, whole, sent);
    if (this.#isOver()) frame.drop();
    else {
      this.#outgoing.push(frame);
      this.#pump();
    }
    return frame;
  }

  /** Sends what was given to {@link send}, a goodbye and no more; reads nothing any more. Waits for nobody. */
  close(): void {
    this.send(GOODBYE);
    // Who closes need not keep for us what it has handed over.
    for (const frame of this.#outgoing) frame.fillNow();
    this.finish();
  }

  /** Like {@link close}, without the goodbye. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    this.#listener = undefined;
    this.#incoming = [];
    this.#parts = [];
    this.unref();
    // A peer that is stuck keeps neither the socket nor the process.
    this.#socket.setTimeout(LINGER_MS, () => this.#socket.destroy());
    // What still comes is read and dropped: unread, it would have the kernel drop what was sent.
    this.#socket.resume();
    this.#pump();
  }

  /** Ends the link as lost, since the peer sends what it must not send. */
  lose(): void {
    this.#socket.destroy();
    this.#ended(false);
  }

  /** Lets the process end while nothing but this link is open. What is being sent still keeps it. */
  unref(): void {
    this.#socket.unref();
  }

  #isOver(): boolean {
    return this.#finishing || this.#socket.destroyed;
  }

  #pump(): void {
    const socket = this.#socket;
    while (!this.#blocked && !socket.destroyed) {
      const frame = this.#outgoing.shift();
      if (!frame) break;
      const { sent } = frame;
      socket.write(frame.take(), sent && ((error) => void (error || sent())));
      this.#blocked = socket.writableNeedDrain;
    }
    if (this.#finishing && this.#outgoing.length === 0 && !socket.writableEnded) socket.end();
  }

  #take(chunk: Buffer): void {
    if (this.#finishing || this.#end) return;
    this.#incoming.push(chunk);
    this.#incomingBytes += chunk.length;
    if (this.#listener) this.#deliver();
    else this.#socket.pause();
  }

  #deliver(): void {
    try {
      while (this.#listener && this.#nextFrame()) {}
    } catch (error) {
      this.lose();
      if (!(error instanceof MalformedMessage)) throw error;
    }
  }

  /** Takes one frame, where one is there. */
  #nextFrame(): boolean {
    if (this.#incomingBytes < HEADER_BYTES) return false;
    const header = this.#first(HEADER_BYTES);
    const length = header.readUInt32BE(0);
    if (length < 1 || length > MAX_FRAME_BYTES + 1)
      throw new MalformedMessage("a frame's length is out of bounds");
    const bytes = HEADER_BYTES - 1 + length;
    if (this.#incomingBytes < bytes) return false;
    const frame = this.#first(bytes);
    const rest = frame.subarray(bytes);
    if (rest.length > 0) this.#incoming[0] = rest;
    else this.#incoming.shift();
    this.#incomingBytes -= bytes;
    this.#part(frame.readUInt8(4), frame.subarray(HEADER_BYTES, bytes));
    return true;
  }

  /** The first buffer, of at least `count` bytes. */
  #first(count: number): Buffer {
    if ((this.#incoming[0] as Buffer).length < count) this.#incoming = [Buffer.concat(this.#incoming)];
    return this.#incoming[0] as Buffer;
  }

  #part(typeAndMore: number, body: Buffer): void {
    this.#parts.push(body);
    this.#partBytes += body.length;
    if (this.#partBytes > this.#messageLimit) throw new MalformedMessage("a message is too long");
    if (typeAndMore & MORE) {
      // Empty parts would cost memory without counting.
      if (body.length === 0) throw new MalformedMessage("an empty part");
      return;
    }
    const message = this.#parts.length === 1 ? body : Buffer.concat(this.#parts, this.#partBytes);
    this.#parts = [];
    this.#partBytes = 0;
    if (typeAndMore === GOODBYE) this.#ended(true);
    else this.#listener?.message(typeAndMore, message);
  }

  #ended(orderly: boolean): void {
    if (this.#end) return;
    this.#end = { orderly };
    this.#tellEnd();
    // No half-open connections: what the peer will not read is not sent.
    if (this.#finishing) return;
    this.#socket.destroy();
    this.#dropOutgoing();
  }

  #dropOutgoing(): void {
    for (const frame of this.#outgoing.splice(0)) frame.drop();
  }

  #tellEnd(): void {
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.ended(this.#end?.orderly ?? false);
  }
}
