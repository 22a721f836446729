// A serving loop with one MoE layer on four worker threads: each rank decodes its own requests, a token of each per step.
// Ranks run dry at different times, and go on calling with zero tokens until the last request is done.
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { createThreadGroup, expertRange, joinThreadGroup, tensor } from "@moe-a2a/core";
import * as sglang from "@moe-a2a/sglang";

const [ranks, topK, hiddenSize, dtype] = [4, 2, 16, "float32"];
const config = {
  epSize: ranks,
  numExperts: 8,
  topK,
  maxTokensPerRank: 4,
  maxDispatchBytesPerToken: sglang.dispatchBytesPerToken({ hiddenSize, dtype, topK }),
  maxCombineBytesPerToken: sglang.combineBytesPerToken({ hiddenSize, dtype }),
};
const route = (state) => [state % 8, (state + 5) % 8]; // a router

async function serve(group) {
  const a2a = await sglang.createMoeAllToAll(config, group, { backend: "js" });
  const dispatcher = new sglang.MoeA2ADispatcher({ a2a, hiddenSize, dtype, combineInPlace: true });
  const { start, end } = expertRange(config, group.rank);
  // Rank r has r requests, so rank 0 has none at all; each goes on for some steps.
  let requests = Array.from({ length: group.rank }, (_, i) => ({ state: i + 1, left: 3 * group.rank + i }));
  for (let step = 0; ; step++) {
    const rows = requests.length;
    const dpGlobalNumTokens = (await group.exchange("tokens", Uint8Array.of(rows))).map(([count]) => count);
    if (group.rank === 0) console.log(`step ${step}: tokens by rank ${dpGlobalNumTokens.join(" ")}`);
    if (dpGlobalNumTokens.every((count) => count === 0)) break;

    const hidden = requests.flatMap(({ state }) => new Array(hiddenSize).fill(state));
    const ids = requests.flatMap(({ state }) => route(state));
    const topkIds = tensor("int32", [rows, topK], ids);
    const topkWeights = tensor("float32", [rows, topK], new Array(ids.length).fill(0.5));
    const hiddenStates = tensor("float32", [rows, hiddenSize], hidden);
    const recv = await dispatcher.dispatch(hiddenStates, { topkIds, topkWeights }, { dpGlobalNumTokens });

    const [rowsIn, rowsOut] = [recv.hiddenStates.data, recv.moeOutput.data.fill(0)];
    recv.topkOutput.topkIds.data.forEach((id, i) => {
      if (id < start || id >= end) return; // another rank's expert, or padding
      const [weight, row] = [recv.topkOutput.topkWeights.data[i], Math.floor(i / topK) * hiddenSize];
      for (let h = row; h < row + hiddenSize; h++) rowsOut[h] += weight * (rowsIn[h] + id);
    });

    const { data } = await dispatcher.combine({ format: "flashinfer", hiddenStates: recv.moeOutput });
    for (const [i, request] of requests.entries()) {
      request.state = Math.floor(data[i * hiddenSize]);
      request.left--;
    }
    requests = requests.filter(({ left }) => left > 0);
  }
  await Promise.all([a2a.close(), group.close()]);
}

const start = (ticket) => new Worker(new URL(import.meta.url), { workerData: ticket });
if (isMainThread) createThreadGroup(ranks).forEach(start);
else await serve(joinThreadGroup(workerData));
