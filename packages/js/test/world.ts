import { once } from "node:events";
import { Worker } from "node:worker_threads";
import {
  type CpuTensor,
  createLocalGroup,
  createThreadGroup,
  type Dispatch,
  type Group,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  tensor,
} from "@moe-a2a/core";
import { type JsCreateOptions, jsBackend } from "../src/index.js";

const { MOE_A2A_LONG_TESTS } = process.env;

/** Whether somebody has the time for more rounds, bytes and seeds. */
export const LONG = MOE_A2A_LONG_TESTS === "1";

/** Four experts per rank, one expert per token, rows of four floats plus the id. */
export function smallConfig(ranks: number, change: Partial<MoeAllToAllConfig> = {}): MoeAllToAllConfig {
  return {
    epSize: ranks,
    numExperts: 4 * ranks,
    topK: 1,
    maxTokensPerRank: 4,
    maxDispatchBytesPerToken: 20,
    maxCombineBytesPerToken: 16,
    timeoutMs: 20_000,
    ...change,
  };
}

/** Instances of all ranks on this thread. */
export async function createLocal(
  ranks: number,
  change: Partial<MoeAllToAllConfig> = {},
  options?: JsCreateOptions,
): Promise<{ groups: Group[]; a2as: MoeAllToAll<CpuTensor>[] }> {
  const groups = createLocalGroup(ranks);
  const config = smallConfig(ranks, change);
  const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group, options)));
  return { groups, a2as };
}

/** Dispatches one token per id, whose row holds `rank * 1000 + token`. */
export function dispatchIds(
  a2a: MoeAllToAll<CpuTensor>,
  ids: readonly number[],
  change: { lane?: 0 | 1; runtimeMaxTokensPerRank?: number } = {},
): Dispatch<CpuTensor> {
  const { topK } = a2a.config;
  const tokens = ids.length / topK;
  const tokenSelectedExperts = tensor("int32", [tokens, topK], [...ids]);
  const row = (i: number) => a2a.epRank * 1000 + Math.floor(i / 4);
  return a2a.dispatch({
    numLocalTokens: tokens,
    tokenSelectedExperts,
    payloads: [
      tensor(
        "float32",
        [tokens, 4],
        Float32Array.from({ length: tokens * 4 }, (_, i) => row(i)),
      ),
      tokenSelectedExperts,
    ],
    expertIdPayloadIndex: topK === 1 ? 1 : undefined,
    ...change,
  });
}

/** One exact round on all given instances: every token goes to expert 0 of its own rank and comes back as it was. */
export async function exactRound(a2as: readonly MoeAllToAll<CpuTensor>[]): Promise<void> {
  const dispatches = a2as.map((a2a) => dispatchIds(a2a, [a2a.epRank * 4]));
  await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
  const combines = dispatches.map((dispatch) => dispatch.combine(dispatch.recv[0] as CpuTensor));
  await Promise.all(combines.map((combine) => combine.ready()));
  for (const [i, combine] of combines.entries()) {
    const expected = (a2as[i]?.epRank ?? 0) * 1000;
    if (combine.output.data.some((value) => value !== expected)) {
      throw new Error(`rank ${a2as[i]?.epRank} combined to [${combine.output.data}], expected ${expected}`);
    }
  }
}

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: Record<string, unknown>;
}

/** A rank on a worker thread that takes commands; see `workers/a2a-rank.mjs`. */
export class ThreadRank {
  readonly worker: Worker;
  #calls = 0;

  private constructor(worker: Worker) {
    this.worker = worker;
    worker.setMaxListeners(100);
    worker.on("error", () => {});
  }

  /** One rank per worker, with an instance each. */
  static async startAll(ranks: number, change: Partial<MoeAllToAllConfig> = {}): Promise<ThreadRank[]> {
    const started = await Promise.all(
      createThreadGroup(ranks).map(async (ticket) => {
        const file = new URL("./workers/a2a-rank.mjs", import.meta.url);
        const rank = new ThreadRank(new Worker(file, { workerData: ticket }));
        await once(rank.worker, "message");
        return rank;
      }),
    );
    const config = smallConfig(ranks, change);
    await Promise.all(started.map((rank) => rank.call("create", { config })));
    return started;
  }

  /** Runs a command; rejects with the fields of the error that it threw. */
  call<R = unknown>(command: string, args: object = {}): Promise<R> {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      const listen = (reply: Reply): void => {
        if (reply.id !== id) return;
        this.worker.off("message", listen);
        if (reply.error) reject(Object.assign(new Error(String(reply.error.message)), reply.error));
        else resolve(reply.result as R);
      };
      this.worker.on("message", listen);
      this.worker.postMessage({ id, command, ...args });
    });
  }
}
