import assert from "node:assert/strict";
import { type CpuTensor, type Dispatch, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { CONFIG } from "./config.js";

type Instance = MoeAllToAll<CpuTensor>;

/** A dispatch of two tokens: one for this rank and the next, one for rank `to` alone. */
export function dispatchOn(a2a: Instance, to: number, change: { lane?: 0 | 1; stats?: boolean } = {}) {
  const { epRank } = a2a;
  const next = (epRank + 1) % CONFIG.epSize;
  const ids = tensor("int32", [2, 2], [2 * epRank, 2 * next, 2 * to, 2 * to + 1]);
  const rows = tensor(
    "float32",
    [2, 4],
    Float32Array.from({ length: 8 }, (_, i) => 10 * epRank + i),
  );
  return a2a.dispatch({
    numLocalTokens: 2,
    tokenSelectedExperts: ids,
    payloads: [rows, ids, tensor("uint8", [2, 5])],
    expertIdPayloadIndex: 1,
    runtimeMaxTokensPerRank: 2,
    ...(change.lane === undefined ? {} : { lane: change.lane }),
    ...(change.stats ? { expertStats: tensor("int32", [3], [epRank, 2, 3]) } : {}),
  });
}

/** Finishes rounds: every rank hands back what it received. */
export async function finish(rounds: readonly Dispatch<CpuTensor>[]): Promise<readonly CpuTensor[]> {
  await Promise.all(rounds.map((round) => round.ready()));
  const combines = rounds.map((round) => round.combine(round.recv[0]!));
  await Promise.all(combines.map((combine) => combine.ready()));
  return combines.map(({ output }) => output);
}

/** Plays a round on these ranks, which has to be exact: each token comes back once per active rank that it went to. */
export async function exactRound(a2as: readonly Instance[]): Promise<void> {
  const active = a2as.map(({ epRank }) => epRank);
  const outputs = await finish(a2as.map((a2a) => dispatchOn(a2a, a2a.epRank, { stats: true })));
  for (const [i, { data }] of outputs.entries()) {
    const rank = active[i]!;
    const times = active.includes((rank + 1) % CONFIG.epSize) ? 2 : 1;
    const expected = Array.from({ length: 8 }, (_, h) => (10 * rank + h) * (h < 4 ? times : 1));
    assert.deepEqual([...data], expected, `output of rank ${rank}`);
  }
}
