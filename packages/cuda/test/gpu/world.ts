import type { CudaTensor } from "@moe-a2a/core";
import { createLocalGroup, type MoeAllToAllConfig } from "@moe-a2a/core";
import {
  type CudaCreateOptions,
  type CudaMoeAllToAll,
  cudaBackend,
  type DeviceDispatch,
} from "../../src/index.js";
import { installedNative } from "../../src/loader.js";
import type { Native } from "../../src/native.js";

const status = cudaBackend.status();

/** Whether tests are skipped here, and why, for their names. */
export const noGpu: boolean = !status.available;
export const why: string = status.available ? "" : ` (skipped: ${status.reason})`;
export const gpus: number = status.available ? status.devices.length : 0;

export function native(): Native {
  return installedNative().native!;
}

/** Two experts per rank, one expert per token, rows of four floats. */
export function smallConfig(ranks: number, change: Partial<MoeAllToAllConfig> = {}): MoeAllToAllConfig {
  return {
    epSize: ranks,
    numExperts: 2 * ranks,
    topK: 1,
    maxTokensPerRank: 8,
    maxDispatchBytesPerToken: 16,
    maxCombineBytesPerToken: 16,
    timeoutMs: 10_000,
    ...change,
  };
}

/** Instances of all ranks on this thread. */
export function createLocal(
  ranks: number,
  change: Partial<MoeAllToAllConfig> = {},
  options?: CudaCreateOptions,
): Promise<CudaMoeAllToAll[]> {
  const config = smallConfig(ranks, change);
  return Promise.all(createLocalGroup(ranks).map((group) => cudaBackend.create(config, group, options)));
}

export const closeAll = (a2as: readonly CudaMoeAllToAll[]): Promise<unknown> =>
  Promise.all(a2as.map((a2a) => a2a.close()));

/** A tensor that holds these numbers. */
export async function upload(
  a2a: CudaMoeAllToAll,
  dtype: "int32" | "float32",
  shape: readonly number[],
  values: readonly number[],
): Promise<CudaTensor> {
  const t = a2a.empty(dtype, shape);
  await a2a.write(t, dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values));
  return t;
}

/** Row t of rank r holds r * 1000 + t, four times. */
export const rowsOf = (rank: number, tokens: number): number[] =>
  Array.from({ length: tokens * 4 }, (_, i) => rank * 1000 + Math.floor(i / 4));

/** Dispatches `tokens` tokens, all to expert 0 of `target`. */
export async function dispatch(
  a2a: CudaMoeAllToAll,
  tokens: number,
  target: number = a2a.epRank,
  change: { readonly stream?: bigint; readonly lane?: 0 | 1 } = {},
): Promise<DeviceDispatch> {
  const ids = await upload(a2a, "int32", [tokens, 1], new Array(tokens).fill(2 * target));
  const rows = await upload(a2a, "float32", [tokens, 4], rowsOf(a2a.epRank, tokens));
  return a2a.dispatch({ numLocalTokens: tokens, tokenSelectedExperts: ids, payloads: [rows], ...change });
}

/** A round on all given instances that has to bring every row back as it was. */
export async function exactRound(a2as: readonly CudaMoeAllToAll[], tokens = 2): Promise<void> {
  const rounds = await Promise.all(
    a2as.map((a2a, i) => dispatch(a2a, tokens, a2as[(i + 1) % a2as.length]!.epRank)),
  );
  const combines = rounds.map((round) => round.combine(round.recv[0]!));
  await Promise.all(combines.map((combine) => combine.ready()));
  for (const [i, combine] of combines.entries()) {
    const sum = await a2as[i]!.read(combine.output);
    const expected = rowsOf(a2as[i]!.epRank, tokens);
    if (`${[...sum]}` !== `${expected}`)
      throw new Error(`rank ${a2as[i]!.epRank} combined to [${sum}], expected [${expected}]`);
  }
}
