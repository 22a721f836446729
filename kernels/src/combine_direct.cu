// Combine of results that lie in the window already, where each block has the piece of its own number to sum, or the
// rank has no token: what most rounds are.
#include "device/pull.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

// Tells the peers where the first block has not begun, and nothing keeps this rank from it. One warp.
__device__ __noinline__ void publishForFirst(const CombineParams &p, const BlockState &block) {
  const int laneId = threadIdx.x & 31;
  const bool isSeen = laneId < kWatched ? Eye(p.phase, block, laneId).sees()
                                        : loadRelaxedSys(&laneState(p.phase)->together[MOE_A2A_COMBINE].blocks) != 0;
  if (__any_sync(0xffffffff, isSeen)) return;
  fenceSys();
  publish(p, block);
}

// Waits until the results of all ranks may be read. Whole block.
__device__ __forceinline__ bool awaitAll(const CombineParams &p, CombineShared &sh) {
  const Messages messages = messagesOf(p);
  if (comesSoon<kCombinePackets, true>(p.phase, sh.block, messages, -1, sh.wait, nullptr)) return true;
  if (threadIdx.x >= kThreads - 32) publishForFirst(p, sh.block);
  return awaitResults(p, sh.block, messages, sh.wait) == kArrived;
}

template <int DType>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) combineDirectly(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  State state;
  const PhaseParams &phase = p.phase;
  const bool isFirst = blockIdx.x == 0, exchanges = phase.maxTokens > 0;
  const int tile = blockIdx.x / p.splits, part = blockIdx.x - tile * p.splits;
  const int64_t start = static_cast<int64_t>(tile) * p.tokensPerTile;
  const int rows = min(p.tokensPerTile, static_cast<int>(p.rows - start));
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  lookAhead(phase, MOE_A2A_COMBINE, state, sh.block);
  awaitTurn(phase);
  const bool publishes = isFirst && threadIdx.x >= kThreads - 32;
  if (publishes && exchanges) fenceSys();
  KeptEntry ahead;
  const bool looksAhead = static_cast<int>(threadIdx.x) < rows * phase.maxTargets;
  if (looksAhead) ahead.load(p, start, threadIdx.x);
  beginPhase<false>(phase, MOE_A2A_COMBINE, state, sh.block);
  MOE_A2A_MARK(2);
  if (publishes && !sh.block.blocked) publishAtOnce(p, sh.block);
  if (isFirst && threadIdx.x == kKeeper && !sh.block.blocked) beginTogether(phase, sh.block, MOE_A2A_COMBINE);
  MOE_A2A_MARK(3);
  if (looksAhead) keepRow(p, sh, ahead);
  const int tokens = min(max(sh.block.numTokens, 0), p.rows);
  const int count = min(rows, static_cast<int>(tokens - start));
  findRows(p, sh, start, count, kThreads);
  const bool arrived = !sh.block.blocked && (!exchanges || awaitAll(p, sh));
  MOE_A2A_MARK(4);
  if (isFirst && threadIdx.x == kKeeper) endCombine(p, sh.block, arrived);
  if (arrived) sumTile<DType, true>(p, sh, start, count, part, DType);
  MOE_A2A_MARK(5);
  __syncthreads();
  // Lest what a block spoils that fails comes before what this one has stored; while the last thread looks.
  if (threadIdx.x == 0 && tokens > 0) fenceGpu();
  const bool failed = hasReadTooLate(p, sh.block, arrived) || !arrived;
  leaveCombine(p, sh.block, isFirst, failed, false, tokens);
  MOE_A2A_MARK(6);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_combine_direct(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *combineDirectlyFunction(int dtype) {
  return kernelFor(dtype, [](auto element) { return combineDirectly<decltype(element)::kDType>; });
}

}  // namespace moe_a2a
