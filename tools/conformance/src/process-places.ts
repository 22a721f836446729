import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProcessGroupOptions } from "@moe-a2a/core";

/** Long: processes of a case may still be starting. */
const JOIN_MS = 60_000;

/** Addresses and secrets for groups of processes: Unix sockets and TCP in turn. */
export class ProcessPlaces {
  #folder: string | undefined;
  #count = 0;

  /** Options of a new group, by rank. */
  async next(size: number): Promise<ProcessGroupOptions[]> {
    const address = this.#count++ % 2 === 0 ? this.#unixAddress() : await tcpAddress();
    const secret = randomBytes(24).toString("base64");
    return Array.from({ length: size }, (_, rank) => ({ rank, size, address, secret, timeoutMs: JOIN_MS }));
  }

  close(): void {
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
  }

  #unixAddress(): string {
    this.#folder ??= mkdtempSync(join(tmpdir(), "moe-a2a-conformance-"));
    return `unix:${join(this.#folder, String(this.#count))}`;
  }
}

/** A loopback address that was free a moment ago. */
function tcpAddress(): Promise<string> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(`127.0.0.1:${port}`));
    });
  });
}
