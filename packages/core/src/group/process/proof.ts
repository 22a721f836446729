import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";

/** Milliseconds for a new connection to prove the secret, and then to say who it is. */
export const PROOF_MS = 5_000;

const MAGIC = Buffer.from("moe-a2a\n");
const NONCE_BYTES = 32;
const MAC_BYTES = 32;
const REFUSED = 0;
const PROVED = 1;

type Role = "connecting" | "listening";

/** The other end does not know this end's secret. */
export class SecretRefused extends Error {}

/** Reads exactly `count` bytes and leaves in the socket what follows them. */
function read(socket: Socket, count: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const finish = (bytes: Buffer | undefined): void => {
      socket.off("readable", take).off("end", fail).off("close", fail);
      if (bytes?.length === count) resolve(bytes);
      else reject(new Error("the connection ended before the secret was proved"));
    };
    const take = (): void => {
      const bytes = socket.read(count) as Buffer | null;
      if (bytes) finish(bytes);
    };
    const fail = (): void => finish(undefined);
    socket.on("readable", take).on("end", fail).on("close", fail);
    if (socket.destroyed) fail();
    else take();
  });
}

function prover(secret: Uint8Array, purpose: string, connecting: Buffer, listening: Buffer) {
  const mac = (role: Role): Buffer =>
    createHmac("sha256", secret)
      .update(`moe-a2a process group\0${role}\0${purpose}\0`)
      .update(connecting)
      .update(listening)
      .digest();
  return { mac, proves: (role: Role, proof: Buffer): boolean => timingSafeEqual(mac(role), proof) };
}

/** Greets with a fresh nonce and returns both ends'. */
async function greet(socket: Socket, role: Role): Promise<{ mine: Buffer; theirs: Buffer }> {
  const mine = randomBytes(NONCE_BYTES);
  if (role === "connecting") socket.write(Buffer.concat([MAGIC, mine]));
  const greeting = await read(socket, MAGIC.length + NONCE_BYTES);
  if (!greeting.subarray(0, MAGIC.length).equals(MAGIC))
    throw new Error("something else is at the other end");
  if (role === "listening") socket.write(Buffer.concat([MAGIC, mine]));
  return { mine, theirs: greeting.subarray(MAGIC.length) };
}

/**
 * Proves to the other end that this one knows the secret, and has it prove the same; the connecting end goes first. What
 * is read until then has a fixed size.
 *
 * @param purpose bound into the proof, so that one made for something else is worth nothing here
 * @throws (rejects) {@link SecretRefused}, or another Error for anything that is not a rank; the socket is destroyed then
 */
export async function prove(socket: Socket, role: Role, secret: Uint8Array, purpose: string): Promise<void> {
  const timer = setTimeout(() => socket.destroy(), PROOF_MS);
  try {
    const { mine, theirs } = await greet(socket, role);
    if (role === "connecting") {
      const { mac, proves } = prover(secret, purpose, mine, theirs);
      socket.write(mac("connecting"));
      const [answer] = await read(socket, 1);
      if (answer !== PROVED) throw new SecretRefused();
      if (!proves("listening", await read(socket, MAC_BYTES))) throw new SecretRefused();
    } else {
      const { mac, proves } = prover(secret, purpose, theirs, mine);
      if (!proves("connecting", await read(socket, MAC_BYTES))) {
        // Told, so that the other end need not guess why; what it sends is not read any more.
        socket.end(Buffer.of(REFUSED));
        throw new SecretRefused();
      }
      socket.write(Buffer.concat([Buffer.of(PROVED), mac("listening")]));
    }
  } catch (error) {
    if (role === "listening" && error instanceof SecretRefused) socket.destroySoon();
    else socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
