import { once } from "node:events";
import { createServer } from "node:net";

const LOOPBACK = "127.0.0.1";
// Below the ports that systems give to outgoing connections: one of those might take it before rank 0 listens there.
const FIRST_PORT = 20_000;
const PORTS = 12_000;
const ATTEMPTS = 100;

/**
 * A loopback address at which nobody listens.
 *
 * @throws (rejects) where none was found
 */
export async function findAddress(): Promise<string> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORTS);
    if (await isFree(port)) return `${LOOPBACK}:${port}`;
  }
  throw new Error(`no free port was found on ${LOOPBACK} for ranks in processes`);
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
