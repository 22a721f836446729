import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type NetConnectOpts, type Socket } from "node:net";

export const SECRET = "a secret of the fuzzer, 32 bytes";
export const MAGIC = Buffer.from("moe-a2a\n");
/** All that somebody is told who has not proved the secret: a greeting, and after a wrong proof one byte. */
export const GREETING_BYTES = 40;

/** What a rank proves with; see the process groups' own. */
export function proof(connecting: Uint8Array, listening: Uint8Array): Buffer {
  return createHmac("sha256", SECRET)
    .update("moe-a2a process group\0connecting\0rendezvous\0")
    .update(connecting)
    .update(listening)
    .digest();
}

/** A connection to a rank, with everything kept that comes from there. */
export class Stranger {
  readonly socket: Socket;
  received: Buffer = Buffer.alloc(0);
  /** Whether it knows the secret, and may be told more. */
  isMember = false;

  constructor(door: NetConnectOpts) {
    this.socket = connect(door);
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
  }

  /** Waits for bytes from there, or the end. */
  async bytes(count: number): Promise<boolean> {
    while (this.received.length < count && !this.socket.closed) {
      await Promise.race([once(this.socket, "data"), once(this.socket, "close")]).catch(() => {});
    }
    return this.received.length >= count;
  }

  /** Greets, and answers with a proof or what `spoil` makes of it. */
  async prove(spoil: (proof: Buffer) => Buffer = (right) => right): Promise<boolean> {
    const mine = randomBytes(32);
    this.socket.write(Buffer.concat([MAGIC, mine]));
    if (!(await this.bytes(GREETING_BYTES))) return false;
    this.socket.write(spoil(proof(mine, this.received.subarray(8, GREETING_BYTES))));
    return true;
  }

  /** Goes away. @throws where it was told more than a stranger may be */
  leave(): void {
    this.socket.destroy();
    if (this.isMember) return;
    const { received } = this;
    const greeting = received.subarray(0, GREETING_BYTES);
    const isGreeting = greeting.subarray(0, 8).equals(MAGIC.subarray(0, greeting.length));
    const rest = received.subarray(GREETING_BYTES);
    if (isGreeting && (rest.length === 0 || rest.equals(Buffer.of(0)))) return;
    throw new Error(
      `a stranger was told ${received.length} bytes: ${received.toString("hex").slice(0, 400)}`,
    );
  }
}
