import { type CpuTensor, joinProcessGroup, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";

// A rank in a process of its own: joins, plays exact rounds until rank 0 is told to stop, and says how many.
const [rank, size, address] = process.argv.slice(2);
let stopped = false;
process.on("message", () => {
  stopped = true;
});
const group = await joinProcessGroup({
  rank: Number(rank),
  size: Number(size),
  address: address!,
  secret: process.env.MOE_A2A_SECRET!,
  timeoutMs: 60_000,
});
process.send?.("joined");
const config = { epSize: group.size, numExperts: group.size, topK: 1, maxTokensPerRank: 4 };
const a2a = await jsBackend.create(
  { ...config, maxDispatchBytesPerToken: 16, maxCombineBytesPerToken: 16, timeoutMs: 30_000 },
  group,
);
let rounds = 0;
for (let more = true; more; rounds++) {
  // One token for each rank; what comes back is what was sent.
  const rows = tensor(
    "float32",
    [group.size, 4],
    Float32Array.from({ length: 4 * group.size }, (_, i) => i + rounds),
  );
  const ids = tensor("int32", [group.size, 1], [...Array(group.size).keys()]);
  const round = a2a.dispatch({
    numLocalTokens: group.size,
    tokenSelectedExperts: ids,
    payloads: [rows],
    runtimeMaxTokensPerRank: group.size,
  });
  await round.ready();
  const combine = round.combine(round.recv[0] as CpuTensor);
  await combine.ready();
  const { data } = combine.output as CpuTensor<"float32">;
  if (rows.data.some((value, i) => data[i] !== value)) throw new Error("a round is not exact");
  // All ranks end after the same round: rank 0 says which.
  const [says] = await group.exchange("more", Uint8Array.of(stopped ? 0 : 1));
  more = says![0] === 1;
}
process.send?.(rounds);
await a2a.close();
await group.close();
process.disconnect?.();
