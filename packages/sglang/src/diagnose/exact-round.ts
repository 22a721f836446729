import {
  type Backend,
  createLocalGroup,
  expertRange,
  type Group,
  isMoeA2AError,
  type MoeAllToAll,
  type Tensor,
} from "@moe-a2a/core";
import type { RoundDiagnosis } from "./diagnosis.js";

const HIDDEN_SIZE = 16;
const TOP_K = 2;

/** The values of a token: small integers, so that every sum of them is exact. */
const rowOf = (rank: number, token: number): number[] =>
  Array.from({ length: HIDDEN_SIZE }, (_, h) => 100 * rank + 10 * token + h);

/** Plays one small round on a backend, its ranks on this thread, and compares every value. Never rejects. */
export async function playExactRound(
  backend: Backend,
  ranks: number,
  timeoutMs: number,
): Promise<RoundDiagnosis> {
  const start = performance.now();
  const results = await Promise.all(
    createLocalGroup(ranks).map((group) => playRank(backend, group, timeoutMs)),
  );
  const problem = results.find((result) => result !== undefined);
  return { exact: problem === undefined, ranks, ms: performance.now() - start, problem };
}

/** One rank's part; resolves with what is wrong. The last rank has no token, the others have one more than the one before. */
async function playRank(backend: Backend, group: Group, timeoutMs: number): Promise<string | undefined> {
  const { rank, size } = group;
  const numExperts = size + 1; // not divisible
  let a2a: MoeAllToAll | undefined;
  try {
    a2a = await backend.create(
      {
        epSize: size,
        numExperts,
        topK: TOP_K,
        maxTokensPerRank: size,
        maxDispatchBytesPerToken: 4 * (HIDDEN_SIZE + TOP_K),
        maxCombineBytesPerToken: 4 * HIDDEN_SIZE,
        timeoutMs,
      },
      group,
    );
    const tokens = rank === size - 1 ? 0 : rank + 1;
    const rows = Array.from({ length: tokens }, (_, token) => rowOf(rank, token));
    const ids = rows.map((_, token) => [(rank + token) % numExperts, (rank + token + 1) % numExperts]);
    const output = await play(a2a, rows, ids);
    // Expert e multiplies by e + 1.
    const expected = rows.flatMap((row, token) =>
      row.map((x) => ids[token]!.reduce((sum, id) => sum + x * (id + 1), 0)),
    );
    const wrong = expected.findIndex((value, i) => output[i] !== value);
    if (output.length === expected.length && wrong < 0) return undefined;
    return `rank ${rank}: element ${wrong} of the result is ${output[wrong]}, and should be ${expected[wrong]}`;
  } catch (error) {
    return isMoeA2AError(error) ? `${error.code}: ${error.message}` : String(error);
  } finally {
    await a2a?.close();
    await group.close();
  }
}

/** Dispatch, the experts on the host, combine. */
async function play(
  a2a: MoeAllToAll,
  rows: number[][],
  ids: number[][],
): Promise<ArrayLike<number | bigint>> {
  const owned: Tensor[] = [];
  const make = async (dtype: "int32" | "float32", shape: number[], values: number[]): Promise<Tensor> => {
    const t = a2a.empty(dtype, shape);
    owned.push(t);
    if (values.length > 0)
      await a2a.write(t, dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values));
    return t;
  };
  try {
    const L = rows.length;
    const hidden = await make("float32", [L, HIDDEN_SIZE], rows.flat());
    const topk = await make("int32", [L, TOP_K], ids.flat());
    const dispatch = a2a.dispatch({
      numLocalTokens: L,
      tokenSelectedExperts: topk,
      payloads: [hidden, topk],
      expertIdPayloadIndex: 1,
    });
    await dispatch.ready();
    const received = (await a2a.read(dispatch.recv[0]!)) as Float32Array;
    const receivedIds = (await a2a.read(dispatch.recv[1]!)) as Int32Array;
    const { start, end } = expertRange(a2a.config, a2a.epRank);
    const results = new Array<number>(received.length).fill(0);
    receivedIds.forEach((id, i) => {
      if (id < start || id >= end) return;
      const row = Math.floor(i / TOP_K) * HIDDEN_SIZE;
      for (let h = row; h < row + HIDDEN_SIZE; h++) results[h]! += received[h]! * (id + 1);
    });
    const combine = dispatch.combine(await make("float32", [...dispatch.recv[0]!.shape], results));
    await combine.ready();
    return await a2a.read(combine.output);
  } finally {
    // Memory of a GPU is given back at once.
    for (const t of owned) (t as { dispose?: () => void }).dispose?.();
  }
}
