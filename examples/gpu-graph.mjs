// A round recorded once as a CUDA graph and replayed with another number of tokens each time, 0 among them. The number lies
// in GPU memory, where the graph reads it. Without a GPU it says what is missing, and ends.
import assert from "node:assert/strict";
import { createLocalGroup } from "@moe-a2a/core";
import { cudaBackend } from "@moe-a2a/cuda";

const MAX_TOKENS = 4;
const RANKS = 2; // they may share a GPU

async function record(group) {
  const a2a = await cudaBackend.create(
    {
      epSize: RANKS,
      numExperts: RANKS,
      topK: 1,
      maxTokensPerRank: MAX_TOKENS,
      maxDispatchBytesPerToken: 4,
      maxCombineBytesPerToken: 4,
    },
    group,
  );
  const count = a2a.empty("int32", [1]);
  const ids = a2a.empty("int32", [MAX_TOKENS, 1]);
  const rows = a2a.empty("float32", [MAX_TOKENS, 1]);
  const out = a2a.empty("float32", [MAX_TOKENS, 1]);
  await a2a.write(ids, Int32Array.of(0, 1, 0, 1));
  await a2a.write(rows, Float32Array.of(1, 2, 3, 4));
  const graph = await a2a.capture(() => {
    const round = a2a.dispatch({ numLocalTokens: count, tokenSelectedExperts: ids, payloads: [rows] });
    round.combine(round.recv[0], { out }); // experts that change nothing
  });
  return { a2a, count, out, graph, owned: [count, ids, rows, out] };
}

const status = cudaBackend.status();
if (status.available) {
  const ranks = await Promise.all(createLocalGroup(RANKS).map(record));
  for (const tokensByRank of [
    [3, 0], // rank 1 is idle
    [0, 0],
    [1, 4],
  ]) {
    await Promise.all(
      ranks.map(async ({ a2a, count, out }, rank) => {
        await a2a.write(count, Int32Array.of(tokensByRank[rank]));
        await a2a.write(out, new Float32Array(MAX_TOKENS)); // a replay leaves rows past the count as they are
      }),
    );
    const replays = ranks.map(({ graph }) => graph.replay());
    await Promise.all(replays.map((replay) => replay.ready()));
    const outputs = await Promise.all(ranks.map(({ a2a, out }) => a2a.read(out)));
    outputs.forEach((output, rank) => {
      const tokens = tokensByRank[rank];
      assert.deepEqual(
        [...output],
        [1, 2, 3, 4].map((value, i) => (i < tokens ? value : 0)),
      );
    });
    console.log(`replayed with ${tokensByRank.join(" and ")} tokens`);
  }
  for (const { a2a, graph, owned } of ranks) {
    graph.dispose();
    for (const tensor of owned) tensor.dispose();
    await a2a.close();
  }
} else console.log(`no CUDA here: ${status.reason}; ${status.hint}`);
