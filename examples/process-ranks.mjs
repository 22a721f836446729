// Ranks in processes, as moe-a2a run, torchrun or any other launcher starts them, with RANK, WORLD_SIZE and MASTER_PORT:
//   npx @moe-a2a/sglang run --ranks 3 process-ranks.mjs
import assert from "node:assert/strict";
import { joinProcessGroup, tensor } from "@moe-a2a/core";
import {
  combineBytesPerToken,
  createMoeAllToAll,
  dispatchBytesPerToken,
  MoeA2ADispatcher,
} from "@moe-a2a/sglang";

const group = await joinProcessGroup(); // reads the environment
const { rank, size } = group;
const [topK, hiddenSize, dtype] = [1, 8, "float32"];
const a2a = await createMoeAllToAll(
  {
    epSize: size,
    numExperts: size,
    topK,
    maxTokensPerRank: size,
    maxDispatchBytesPerToken: dispatchBytesPerToken({ hiddenSize, dtype, topK }),
    maxCombineBytesPerToken: combineBytesPerToken({ hiddenSize, dtype }),
  },
  group,
  { backend: "js" },
);
const dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype });

for (let step = 0; step < 3; step++) {
  // Rank r has r tokens, so rank 0 none; token i goes to expert i.
  const dpGlobalNumTokens = Array.from({ length: size }, (_, r) => r);
  const values = Array.from({ length: rank * hiddenSize }, (_, i) => 100 * rank + i);
  const ids = Array.from({ length: rank }, (_, i) => i);
  const received = await dispatcher.dispatch(
    tensor("float32", [rank, hiddenSize], values),
    {
      topkIds: tensor("int32", [rank, topK], ids),
      topkWeights: tensor(
        "float32",
        [rank, topK],
        ids.map(() => 1),
      ),
    },
    { dpGlobalNumTokens },
  );
  // The expert adds its number, which is this rank's.
  const results = received.hiddenStates.data.map((x) => x + rank);
  const hiddenStates = tensor("float32", received.hiddenStates.shape, results);
  const output = await dispatcher.combine({ format: "flashinfer", hiddenStates });
  assert.deepEqual(
    [...output.data],
    values.map((x, i) => x + Math.floor(i / hiddenSize)),
  );
  const { tokensSent, tokensReceived } = await received.ready();
  console.log(`step ${step}: sent ${tokensSent}, received ${tokensReceived}`);
}
await a2a.close();
await group.close();
