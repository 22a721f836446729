import { once } from "node:events";
import { createServer } from "node:net";
import { UsageError } from "./command.js";

/** Where rank 0 listens. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

const LOOPBACK = "127.0.0.1";

/**
 * Reads `host:port`, `[host]:port` or `:port` (loopback).
 *
 * @throws UsageError
 */
export function readPlace(address: string): Place {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match && port >= 1 && port <= 65_535) return { host: match[1] ?? (match[2] || LOOPBACK), port };
  throw new UsageError(
    `--address is "${address}"; it must be HOST:PORT ("[HOST]:PORT" for IPv6) with a port from 1 to 65535`,
  );
}

// Below the ports that systems give to outgoing connections: one of those might be gone before rank 0 listens there, even
// to a rank that looks for rank 0.
const FIRST_PORT = 20_000;
const PORTS = 12_000;
const ATTEMPTS = 100;

/**
 * A port of the loopback interface that nobody uses.
 *
 * @throws (rejects) UsageError where none can be found
 */
export async function findPlace(): Promise<Place> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORTS);
    if (await isFree(port)) return { host: LOOPBACK, port };
  }
  throw new UsageError(`no free port could be found on ${LOOPBACK}; give one with --address HOST:PORT`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, LOOPBACK);
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
