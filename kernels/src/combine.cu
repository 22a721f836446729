// Combine: this rank's results are offered in its own window; their owners read and sum them.
#include "device/copy.cuh"
#include "device/pull.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

// Copies the received rows' results into this rank's window. Whole block; piece `ticket` of `p.copyTickets`.
__device__ void copyIn(const CombineParams &p, CombineShared &sh, int ticket) {
  const PhaseParams &phase = p.phase;
  const auto *recvCounts = reinterpret_cast<const int32_t *>(phase.own + phase.at.last_tokens);
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t end = 0;
    for (int r = 0; r < phase.ranks; r++) sh.ends[r] = end += recvCounts[r];
  }
  __syncthreads();
  const int total = sh.ends[phase.ranks - 1];
  int source = 0;
  for (int row = ticket; row < total; row += p.copyTickets) {
    while (row >= sh.ends[source]) source++;
    const int64_t slot = static_cast<int64_t>(source) * phase.maxTokens + row - (source ? sh.ends[source - 1] : 0);
    const auto target = [&](int) { return phase.window + phase.at.combine + slot * p.rowBytes; };
    fanOutAny(p.copyVectorLog2, p.expertOutput + slot * p.rowBytes, target, 1, 0, p.rowBytes >> p.copyVectorLog2,
              threadIdx.x, blockDim.x);
  }
}

template <int DType>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) combineKernel(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  State state;
  BlockState &block = sh.block;
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  lookAhead(p.phase, MOE_A2A_COMBINE, state, block);
  awaitTurn(p.phase);
  const bool publishes = threadIdx.x >= kThreads - 32;
  if (publishes && p.copyTickets == 0) fenceSys();
  beginPhase<true>(p.phase, MOE_A2A_COMBINE, state, block);
  if (block.ticket == kNoTicket) return;
  MOE_A2A_MARK(2);
  const int tokens = min(max(block.numTokens, 0), p.rows);
  const uint32_t copies = p.copyTickets;
  const uint32_t sums = (tokens + p.tokensPerTile - 1) / p.tokensPerTile * p.splits;
  const uint32_t all = copies + sums;
  const bool isFirst = block.ticket == 0;
  if (isFirst && threadIdx.x == kKeeper && !block.blocked) beginTogether(p.phase, block, MOE_A2A_COMBINE);

  uint32_t copied = 0;
  for (; block.ticket < copies; takeTicket(p.phase, MOE_A2A_COMBINE, block), copied++) {
    if (!block.blocked) copyIn(p, sh, block.ticket);
  }
  // Without copies, the block that holds the first ticket publishes at once.
  const bool isLast = copied > 0 && countSent(p.phase, MOE_A2A_COMBINE, copied, copies, block.blocked);
  if (isLast || (isFirst && copies == 0 && publishes && !block.blocked)) publishAtOnce(p, block);
  MOE_A2A_MARK(3);
  // A rank takes part also with no token.
  const bool waits = isFirst || block.ticket < all;
  bool arrived = waits && !block.blocked;
  for (bool hasWaited = false; waits; hasWaited = true) {
    const uint32_t piece = block.ticket - copies;
    const int64_t start = static_cast<int64_t>(piece / p.splits) * p.tokensPerTile;
    const int count = piece < sums ? min(p.tokensPerTile, static_cast<int>(tokens - start)) : 0;
    findRows(p, sh, start, count, 0);
    if (!hasWaited) {
      if (arrived && p.phase.maxTokens > 0) arrived = awaitResults(p, block, messagesOf(p), sh.wait) == kArrived;
      if (isFirst && threadIdx.x == kKeeper) endCombine(p, block, arrived);
    }
    MOE_A2A_MARK(4);
    __syncthreads();
    if (arrived && p.vectorized) sumTile<DType, true>(p, sh, start, count, piece % p.splits, p.outDtype);
    else if (arrived) sumTile<DType, false>(p, sh, start, count, piece % p.splits, p.outDtype);
    if (all <= blocksAtWork(p.phase)) break;
    takeTicket(p.phase, MOE_A2A_COMBINE, block);
    if (block.ticket >= all) break;
  }
  MOE_A2A_MARK(5);
  __syncthreads();
  const bool failed = hasReadTooLate(p, block, arrived) || (waits && !arrived);
  leaveCombine(p, block, isFirst, failed, true, tokens);
  MOE_A2A_MARK(6);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_combine(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *combineFunction(int dtype) {
  return kernelFor(dtype, [](auto element) { return combineKernel<decltype(element)::kDType>; });
}

}  // namespace moe_a2a
