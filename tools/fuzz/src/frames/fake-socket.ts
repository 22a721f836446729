import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** As much of a socket as a link uses; what comes in is handed over at once, without the kernel. */
class FakeSocket extends Duplex {
  /** The end that takes what this one writes, or nobody. */
  peer: FakeSocket | undefined;
  written = 0;

  constructor() {
    super({ autoDestroy: true, readableHighWaterMark: 2 ** 24 });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.written += chunk.length;
    const { peer } = this;
    if (peer) setImmediate(() => void (peer.destroyed || peer.push(Buffer.from(chunk))));
    done();
  }

  override _destroy(_: Error | null, done: () => void): void {
    const { peer } = this;
    if (peer) setImmediate(() => void (peer.destroyed || peer.push(null)));
    done();
  }

  override _final(done: () => void): void {
    const { peer } = this;
    if (peer) setImmediate(() => void (peer.destroyed || peer.push(null)));
    done();
  }

  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  setTimeout(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  ref(): this {
    return this;
  }
}

/** One end of a connection on which nobody listens at the other. */
export function deadEnd(): Socket {
  return new FakeSocket() as unknown as Socket;
}

/** Both ends of a connection. */
export function connection(): readonly [Socket, Socket] {
  const [a, b] = [new FakeSocket(), new FakeSocket()];
  a.peer = b;
  b.peer = a;
  return [a as unknown as Socket, b as unknown as Socket];
}

/** Hands bytes to a socket as if they had come, in this very turn. */
export function feed(socket: Socket, bytes: Buffer): void {
  socket.emit("data", bytes);
}
