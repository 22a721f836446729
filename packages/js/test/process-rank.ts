import { type ChildProcess, type ForkOptions, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { MoeAllToAllConfig } from "@moe-a2a/core";
import { afterEach } from "vitest";

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: Record<string, unknown>;
}

const script = fileURLToPath(new URL("./workers/process-rank.mjs", import.meta.url));
export const SECRET = "a secret of the tests, 32 bytes.";

/** A rank in a process of its own that takes commands; see `workers/process-rank.mjs`. */
export class ProcessRank {
  readonly child: ChildProcess;
  #calls = 0;

  private constructor(options: ForkOptions) {
    this.child = fork(script, { execArgv: [], ...options }).setMaxListeners(100);
  }

  static async start(options: ForkOptions = {}): Promise<ProcessRank> {
    const rank = new ProcessRank(options);
    await once(rank.child, "message");
    return rank;
  }

  /** Runs a command; rejects with the fields of the error that it threw. */
  call<R = unknown>(command: string, args: object = {}): Promise<R> {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      const settle = (done: () => void): void => {
        this.child.off("message", listen).off("exit", ended);
        done();
      };
      const ended = (): void => settle(() => reject(new Error(`the process ended during ${command}`)));
      const listen = ({ id: of, result, error }: Reply): void => {
        if (of !== id) return;
        if (error) settle(() => reject(Object.assign(new Error(String(error.message)), error)));
        else settle(() => resolve(result as R));
      };
      this.child.on("message", listen).once("exit", ended);
      this.child.send({ id, command, ...args });
    });
  }

  /** Ends the process as a failing machine would. */
  async kill(): Promise<void> {
    const exit = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await exit;
  }
}

/** Runs a command on some ranks at once. */
export function all<R = unknown>(
  ranks: readonly ProcessRank[],
  command: string,
  args: object = {},
): Promise<R[]> {
  return Promise.all(ranks.map((rank) => rank.call<R>(command, args)));
}

const started: ProcessRank[] = [];
const cleanups: (() => unknown)[] = [];

/** Ends after each test what it has started. */
export function cleanUpProcesses(): void {
  afterEach(async () => {
    await Promise.all(
      started.splice(0).map((rank) => rank.child.exitCode ?? rank.child.signalCode ?? rank.kill()),
    );
    for (const cleanup of cleanups.splice(0)) await cleanup();
  });
}

/** An address that nobody uses: a Unix socket's, or a port of loopback. */
export async function freeAddress(kind: "unix" | "tcp"): Promise<string> {
  if (kind === "unix") {
    const folder = await mkdtemp(join(tmpdir(), "moe-a2a-"));
    cleanups.push(() => rm(folder, { recursive: true }));
    return `unix:${folder}/group`;
  }
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return `127.0.0.1:${port}`;
}

/** Processes that have joined a group. */
export async function joinAll(
  size: number,
  {
    address = freeAddress("tcp"),
    fork = () => ({}),
  }: { address?: string | Promise<string>; fork?: (rank: number) => ForkOptions } = {},
): Promise<ProcessRank[]> {
  const options = { size, address: await address, secret: SECRET, timeoutMs: 20_000 };
  const ranks = await Promise.all(Array.from({ length: size }, (_, rank) => ProcessRank.start(fork(rank))));
  started.push(...ranks);
  await Promise.all(ranks.map((each, rank) => each.call("join", { options: { ...options, rank } })));
  return ranks;
}

export type RoundConfig = Partial<MoeAllToAllConfig> & { readonly rowBytes: number; readonly hidden: number };

/** What `create` takes for rounds of so many tokens and bytes, and what rounds take. */
export function roundsOf(tokens: number | readonly number[], { rowBytes, hidden, ...change }: RoundConfig) {
  const most = typeof tokens === "number" ? tokens : Math.max(...tokens);
  const config = {
    maxTokensPerRank: Math.max(1, most),
    maxDispatchBytesPerToken: rowBytes + 8,
    maxCombineBytesPerToken: hidden * 4,
    timeoutMs: 20_000,
    ...change,
  };
  return { config, round: { tokens, rowBytes, hidden } };
}
