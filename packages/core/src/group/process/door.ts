import { randomBytes } from "node:crypto";
import { lstat, unlink } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connectOptions, type Place } from "./place.js";
import { PROOF_MS, prove, SecretRefused } from "./proof.js";

/** Connections that may be without a proof at once; one more costs the oldest of them its place. */
const MAX_UNPROVED = 128;
const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 250;

interface DoorOptions {
  readonly secret: Uint8Array;
  readonly purpose: string;
  /** Takes a connection whose other end has proved the secret. */
  readonly accept: (socket: Socket) => void;
}

function listen(server: Server, place: Place): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(connectOptions(place), () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** Removes the file of a Unix socket on which nobody listens any more: its owner was killed. */
async function removeStale(path: string): Promise<boolean> {
  const answers = await dial({ path }, new AbortController().signal).then(
    (socket) => {
      socket.destroy();
      return true;
    },
    (error: NodeJS.ErrnoException) => error.code !== "ECONNREFUSED",
  );
  if (answers || !(await lstat(path)).isSocket()) return false;
  await unlink(path);
  return true;
}

/** Listens, and lets in who proves the secret. Others are dropped, and nobody else notices. */
export class Door {
  readonly #server: Server;
  readonly #unproved = new Set<Socket>();
  #closed = false;

  private constructor(options: DoorOptions) {
    this.#server = createServer((socket) => {
      void this.#admit(socket, options);
    });
  }

  /** @throws (rejects) what `listen` reports, such as EADDRINUSE */
  static async open(place: Place, options: DoorOptions): Promise<Door> {
    const door = new Door(options);
    try {
      await listen(door.#server, place);
    } catch (error) {
      const inUse = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
      if (!inUse || !("path" in place) || !(await removeStale(place.path))) throw error;
      await listen(door.#server, place);
    }
    // Failed accepts, such as for want of file descriptors, concern who connects: it tries again.
    door.#server.on("error", () => {});
    return door;
  }

  /** The port, where the place was a host. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Lets the process end while nothing but this door is open. */
  unref(): void {
    this.#server.unref();
  }

  /** Stops listening; connections that were let in stay. */
  close(): void {
    this.#closed = true;
    this.#server.close();
    for (const socket of this.#unproved) socket.destroy();
  }

  async #admit(socket: Socket, { secret, purpose, accept }: DoorOptions): Promise<void> {
    socket.on("error", () => {});
    for (const oldest of this.#unproved) {
      if (this.#unproved.size < MAX_UNPROVED) break;
      this.#unproved.delete(oldest);
      oldest.destroy();
    }
    this.#unproved.add(socket);
    try {
      await prove(socket, "listening", secret, purpose);
    } catch {
      return;
    } finally {
      this.#unproved.delete(socket);
    }
    if (this.#closed) socket.destroy();
    else accept(socket);
  }
}

/** Connects once. */
function dial(place: Place, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(connectOptions(place));
    const cut = (): void => {
      socket.destroy(new Error("given up"));
    };
    const timer = setTimeout(cut, PROOF_MS);
    const done = (settle: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", cut);
      settle();
    };
    signal.addEventListener("abort", cut);
    // Stays, so that an error that comes later throws nowhere.
    socket.on("error", (error) => done(() => reject(error)));
    socket.once("connect", () => done(() => resolve(socket)));
    if (signal.aborted) cut();
  });
}

/**
 * Connects to a door, as often as it takes, and proves the secret.
 *
 * @throws (rejects) {@link SecretRefused}; another Error once `signal` is aborted
 */
export async function enter(
  place: Place,
  { secret, purpose, signal }: { secret: Uint8Array; purpose: string; signal: AbortSignal },
): Promise<Socket> {
  for (let pause = FIRST_RETRY_MS; ; pause = Math.min(2 * pause, LAST_RETRY_MS)) {
    try {
      const socket = await dial(place, signal);
      const cut = (): void => {
        socket.destroy();
      };
      signal.addEventListener("abort", cut);
      try {
        await prove(socket, "connecting", secret, purpose);
        return socket;
      } finally {
        signal.removeEventListener("abort", cut);
      }
    } catch (error) {
      if (error instanceof SecretRefused || signal.aborted) throw error;
    }
    await sleep(pause, undefined, { signal });
  }
}

/** A door for the ranks above this one: next to rank 0's path, or at the address through which this rank reaches rank 0. */
export async function openOwnDoor(
  rendezvous: Place,
  { rank, toRankZero, ...options }: DoorOptions & { readonly rank: number; readonly toRankZero: Socket },
): Promise<{ door: Door; place: Place }> {
  if ("path" in rendezvous) {
    const place = { path: `${rendezvous.path}.${rank}-${randomBytes(4).toString("hex")}` };
    return { door: await Door.open(place, options), place };
  }
  const host = toRankZero.localAddress as string;
  const door = await Door.open({ host, port: 0 }, options);
  return { door, place: { host, port: door.port } };
}
