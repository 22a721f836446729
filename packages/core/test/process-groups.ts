// What the tests of process groups share.
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect } from "vitest";
import type { ProcessGroupOptions } from "../src/index.js";
import { RankProcess } from "./rank-process.js";

export const secret = "a secret of the tests, 32 bytes.";
export const processes: RankProcess[] = [];
export const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const { child } of processes.splice(0)) child.kill("SIGKILL");
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "moe-a2a-"));
  cleanups.push(() => rm(path, { recursive: true }));
  return path;
}

export async function start(count: number, env: NodeJS.ProcessEnv = {}): Promise<RankProcess[]> {
  const started = await Promise.all(Array.from({ length: count }, () => RankProcess.start(env)));
  processes.push(...started);
  return started;
}

export type Options = Required<Pick<ProcessGroupOptions, "size" | "address">> & ProcessGroupOptions;

/** Options that all ranks share. */
export async function optionsFor(size: number): Promise<Options> {
  return { size, address: `127.0.0.1:${await freePort()}`, secret: secret, timeoutMs: 10_000 };
}

export async function joined(
  size: number,
  given?: Options,
): Promise<{ ranks: RankProcess[]; options: Options }> {
  const options = given ?? (await optionsFor(size));
  const ranks = await start(size);
  const groups = ranks.map((r, rank) => r.call("join", { options: { ...options, rank } }));
  expect(await Promise.all(groups)).toEqual(ranks.map((_, rank) => ({ rank, size })));
  return { ranks, options };
}

/** A connection to the group's address, once somebody listens there. */
export async function intrude({ address }: Pick<Options, "address">): Promise<Socket> {
  const port = Number(address.split(":")[1]);
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    cleanups.push(() => socket.destroy());
    try {
      await once(socket, "connect");
      return socket.on("error", () => {});
    } catch {
      await sleep(20);
    }
  }
}

/** Reads exactly `count` bytes. */
export async function take(socket: Socket, count: number): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read(count) as Buffer | null;
    if (bytes) return bytes;
    await once(socket, "readable");
  }
}

export const magic = Buffer.from("moe-a2a\n");

export function proof(role: string, purpose: string, connecting: Buffer, listening: Buffer): Buffer {
  const text = `moe-a2a process group\0${role}\0${purpose}\0`;
  return createHmac("sha256", secret).update(text).update(connecting).update(listening).digest();
}

/** A connection to a rank that has proved the secret, written down anew. */
export async function impostor(to: Pick<Options, "address">, purpose = "rendezvous"): Promise<Socket> {
  const socket = await intrude(to);
  const mine = randomBytes(32);
  socket.write(Buffer.concat([magic, mine]));
  const theirs = (await take(socket, 40)).subarray(8);
  socket.write(proof("connecting", purpose, mine, theirs));
  expect(await take(socket, 33)).toEqual(
    Buffer.concat([Buffer.of(1), proof("listening", purpose, mine, theirs)]),
  );
  return socket;
}

export function frame(type: number, value: unknown): Buffer {
  const body = Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value));
  const header = Buffer.alloc(5, type);
  header.writeUInt32BE(body.length + 1);
  return Buffer.concat([header, body]);
}

export const rejected = (reason: object) =>
  expect.objectContaining({ status: "rejected", reason: expect.objectContaining(reason) });
