// Combine: this rank's results are offered in its own window; their owners read and sum them.
#include "device/copy.cuh"
#include "device/results.cuh"
#include "device/sum.cuh"
#include "device/together.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

struct CombineShared {
  BlockState block;
  WaitState wait;
  const uint8_t *rows[kMaxTile][MOE_A2A_MAX_TOP_K];  // what a tile's tokens sum up, in order of k
  uint8_t counts[kMaxTile];
  int32_t ends[MOE_A2A_MAX_RANKS];  // running sums of the received rows
  bool isFirst;
};

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

// Keeps where an entry's result lies. Read after a barrier.
__device__ __forceinline__ void keepRow(const CombineParams &p, CombineShared &sh, const KeptEntry &entry) {
  const PhaseParams &phase = p.phase;
  if (entry.j == 0) sh.counts[entry.index] = entry.count;
  if (entry.j >= entry.count) return;
  const int64_t row = static_cast<int64_t>(phase.rank) * phase.maxTokens + entry.slot;
  sh.rows[entry.index][entry.j] =
      reinterpret_cast<const uint8_t *>(sh.block.windows[entry.rank]) + phase.at.combine + row * p.rowBytes;
}

// Finds the rows that a tile's tokens sum up. Whole block; read them after a barrier.
__device__ void findRows(const CombineParams &p, CombineShared &sh, int64_t start, int count, int from) {
  for (int item = from + threadIdx.x; item < count * p.phase.maxTargets; item += kThreads) {
    KeptEntry entry;
    entry.load(p, start, item);
    keepRow(p, sh, entry);
  }
}

// Sums one part of each row of a tile of tokens whose rows were found. Whole block. `Vectors`: 16 bytes at once.
template <int DType, bool Vectors>
__device__ __forceinline__ void sumTile(const CombineParams &p, const CombineShared &sh, int64_t start, int count,
                                        int part, int outDtype) {
  const int lanes = 1 << p.lanesLog2;
  const int group = threadIdx.x >> p.lanesLog2, groups = kThreads >> p.lanesLog2, lane = threadIdx.x & (lanes - 1);
  const int from = partStart(p.parts, part), to = partStart(p.parts, part + 1);
  for (int index = group; index < count; index += groups) {
    uint8_t *output = outputOf(p, start + index);
    const auto row = [&](int j) { return sh.rows[index][j]; };
    if constexpr (Vectors) {
      for (int v = from + lane; v < to; v += lanes) {
        sumVectors<DType>(row, sh.counts[index], v, lanes, to, outDtype, output);
      }
    } else {
      for (int h = from + lane; h < to; h += lanes) {
        sumElement<DType>(row, sh.counts[index], h, outDtype, output);
      }
    }
  }
}

// A combine that exchanges nothing moves its messages on all the same, lest they fall behind by half of all numbers.
// One warp.
__device__ void advanceMessages(const CombineParams &p, const BlockState &block) {
  for (int source = threadIdx.x & 31; source < p.phase.ranks; source += 32) {
    if (!(block.active >> source & 1)) continue;
    storePacket(p.phase.window + p.phase.at.combine_headers + source * kCombineHeaderBytes, messageOf(p, block));
  }
}

// Tells the peers, where there is anything to exchange. The last warp.
__device__ __forceinline__ void publishAtOnce(const CombineParams &p, const BlockState &block) {
  if (p.phase.maxTokens > 0) publish(p, block);
  else advanceMessages(p, block);
}

// Results lie in the window already, and each block has the piece of its own number to sum, or the rank has no token.
// This is what most rounds are, so it has a kernel without anything else in it.
template <int DType>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) combineDirectly(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  State state;
  BlockState &block = sh.block;
  const int tile = blockIdx.x / p.splits, part = blockIdx.x - tile * p.splits;
  const int64_t start = static_cast<int64_t>(tile) * p.tokensPerTile;
  const int rows = min(p.tokensPerTile, static_cast<int>(p.rows - start));
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  lookAhead(p.phase, MOE_A2A_COMBINE, state, block);
  awaitTurn(p.phase);
  // Any block may turn out to be the one that publishes.
  const bool publishes = threadIdx.x >= kThreads - 32;
  if (publishes) fenceSys();
  KeptEntry ahead;
  const bool looksAhead = static_cast<int>(threadIdx.x) < rows * p.phase.maxTargets;
  if (looksAhead) ahead.load(p, start, threadIdx.x);
  if (threadIdx.x == kKeeper) sh.isFirst = addRelaxedGpu(&laneState(p.phase)->begun, 1) == 0;
  beginPhase<false>(p.phase, MOE_A2A_COMBINE, state, block);
  MOE_A2A_MARK(2);
  // The first to have begun publishes, whatever its number; the others may wait then.
  if (sh.isFirst && publishes && !block.blocked) publishAtOnce(p, block);
  if (sh.isFirst && threadIdx.x == kKeeper) beginTogether(p.phase, block, MOE_A2A_COMBINE);
  MOE_A2A_MARK(3);
  if (looksAhead) keepRow(p, sh, ahead);
  const int tokens = min(max(block.numTokens, 0), p.rows);
  const int count = min(rows, static_cast<int>(tokens - start));
  findRows(p, sh, start, count, kThreads);
  const bool arrived =
      !block.blocked && (p.phase.maxTokens == 0 || awaitResults(p, block, messagesOf(p), sh.wait) == kArrived);
  MOE_A2A_MARK(4);
  if (sh.isFirst && threadIdx.x == kKeeper) {
    endTogether(p.phase, block, MOE_A2A_COMBINE, arrived, block.numTokens);
    startNextRound(laneState(p.phase), block);
  }
  if (arrived) sumTile<DType, true>(p, sh, start, count, part, DType);
  MOE_A2A_MARK(5);
  __syncthreads();
  const bool failed = hasReadTooLate(p, block, arrived) || !arrived;
  if (leaveTogether(p.phase, block, MOE_A2A_COMBINE, failed, tokens > 0)) spoil(p, tokens);
  MOE_A2A_MARK(6);
}

template <int DType>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) combineKernel(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  State state;
  BlockState &block = sh.block;
  LaneState *lane = laneState(p.phase);
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  lookAhead(p.phase, MOE_A2A_COMBINE, state, block);
  awaitTurn(p.phase);
  const bool publishes = threadIdx.x >= kThreads - 32;
  if (publishes && p.copyTickets == 0) fenceSys();
  beginPhase<true>(p.phase, MOE_A2A_COMBINE, state, block);
  MOE_A2A_MARK(2);
  const int tokens = min(max(block.numTokens, 0), p.rows);
  const uint32_t copies = p.copyTickets;
  const uint32_t sums = (tokens + p.tokensPerTile - 1) / p.tokensPerTile * p.splits;
  // Without copies, the block that holds the first ticket publishes at once; a rank takes part also with no token.
  const uint32_t all = copies + max(sums, 1u);

  bool waited = false, arrived = false;
  uint32_t copied = 0;
  while (block.ticket < all) {
    if (block.ticket < copies) {
      if (!block.blocked) copyIn(p, sh, block.ticket);
      copied++;
      takeTicket(lane, block);
      if (block.ticket < copies) continue;
    }
    if (copied > 0) {
      if (countSent(&lane->done, copied, copies, block.blocked, true) == kLast) publish(p, block);
      copied = 0;
      if (block.ticket >= all) break;
    }
    if (copies == 0 && block.ticket == 0 && publishes && !block.blocked) publishAtOnce(p, block);
    MOE_A2A_MARK(3);
    const uint32_t piece = block.ticket - copies;
    const int64_t start = static_cast<int64_t>(piece / p.splits) * p.tokensPerTile;
    const int count = piece < sums ? min(p.tokensPerTile, static_cast<int>(tokens - start)) : 0;
    findRows(p, sh, start, count, 0);
    if (!waited) {
      waited = true;
      arrived =
          !block.blocked && (p.phase.maxTokens == 0 || awaitResults(p, block, messagesOf(p), sh.wait) == kArrived);
    }
    MOE_A2A_MARK(4);
    __syncthreads();
    if (arrived && p.vectorized) sumTile<DType, true>(p, sh, start, count, piece % p.splits, p.outDtype);
    else if (arrived) sumTile<DType, false>(p, sh, start, count, piece % p.splits, p.outDtype);
    if (all <= blocksAtWork(p.phase)) break;
    takeTicket(lane, block);
  }
  MOE_A2A_MARK(5);
  leave(p, block, arrived, waited && !arrived, tokens);
}

template <int DType>
const void *functionOf(bool direct) {
  return direct ? reinterpret_cast<const void *>(combineDirectly<DType>)
                : reinterpret_cast<const void *>(combineKernel<DType>);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_combine(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *combineFunction(int dtype, bool direct) {
  switch (dtype) {
    case MOE_A2A_FLOAT32:
      return functionOf<MOE_A2A_FLOAT32>(direct);
    case MOE_A2A_FLOAT16:
      return functionOf<MOE_A2A_FLOAT16>(direct);
    default:
      return functionOf<MOE_A2A_BFLOAT16>(direct);
  }
}

}  // namespace moe_a2a
