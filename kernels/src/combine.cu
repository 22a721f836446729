// Combine: this rank's results are offered in its own window; their owners read and sum them.
#include "device/copy.cuh"
#include "device/sum.cuh"
#include "device/wait.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

struct CombineShared {
  BlockState block;
  WaitState wait;
  const uint8_t *rows[kThreads / 32][MOE_A2A_MAX_TOP_K];
  int32_t ends[MOE_A2A_MAX_RANKS];  // running sums of the received rows
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
    uint8_t *target = phase.window + phase.at.combine + slot * p.rowBytes;
    fanOutAny(p.copyVectorLog2, p.expertOutput + slot * p.rowBytes, &target, 1, 0, p.rowBytes >> p.copyVectorLog2,
              threadIdx.x, blockDim.x);
  }
}

// What this rank says about the round, its generation aside.
__device__ void prepareMessage(const CombineParams &p, uint32_t *said) {
  if (threadIdx.x != 0) return;
  said[kWordHiddenSize] = p.hiddenSize;
  said[kWordDtype] = p.dtype;
}

__device__ __forceinline__ Packet messageOf(const CombineParams &p, const BlockState &block) {
  return {
      block.round,
      {static_cast<uint32_t>(block.generation), static_cast<uint32_t>(p.hiddenSize), static_cast<uint32_t>(p.dtype)}};
}

// Tells all active ranks, this one too, that this rank's results may be read; `offers` where there are any.
// That its earlier reads are over needs no fence: the kernels that made them are complete. Whole block.
__device__ void publish(const CombineParams &p, const BlockState &block, bool offers) {
  const PhaseParams &phase = p.phase;
  const int peer = threadIdx.x;
  delay(phase.delays.beforeFlag);
  if (peer < phase.ranks && (block.active >> peer & 1)) {
    if (offers) fenceSys();
    storePacket(
        reinterpret_cast<uint8_t *>(block.windows[peer]) + phase.at.combine_headers + phase.rank * kCombineHeaderBytes,
        messageOf(p, block));
  }
  delay(phase.delays.afterFlag);
}

// Waits for all peers, and compares what they said. Whole block.
__device__ bool awaitResults(const CombineParams &p, CombineShared &sh) {
  const Messages messages{MOE_A2A_COMBINE, p.phase.at.combine_headers, kCombineHeaderBytes, globalNanoseconds()};
  const bool arrived =
      awaitMessages<kCombinePackets>(p.phase, sh.block, messages, kCombineFields, -1, sh.wait, nullptr);
  delay(p.phase.delays.afterWait);
  return arrived;
}

// Sums one part of each row of a tile of tokens.
template <int DType, int OutDType>
__device__ void sumTile(const CombineParams &p, CombineShared &sh, int ticket, int tokens) {
  const PhaseParams &phase = p.phase;
  const int lanes = 1 << p.lanesLog2;
  const int group = threadIdx.x >> p.lanesLog2, groups = kThreads >> p.lanesLog2, lane = threadIdx.x & (lanes - 1);
  const bool wholeBlock = p.lanesLog2 == kThreadsLog2;
  const uint8_t **rows = sh.rows[group];
  const int tile = ticket / p.splits, part = ticket % p.splits;
  const int start = tile * p.tokensPerTile, end = min(start + p.tokensPerTile, tokens);
  const auto *entryCounts = phase.own + phase.at.entry_counts;
  const auto *entryRanks = phase.own + phase.at.entry_ranks;
  const auto *entrySlots = reinterpret_cast<const int32_t *>(phase.own + phase.at.entry_slots);
  const int from = partStart(p.parts, part), to = partStart(p.parts, part + 1);
  for (int first = start; first < end; first += groups) {
    const int token = first + group;
    const int count = token < end ? entryCounts[token] : 0;
    if (lane < count) {
      const int64_t entry = static_cast<int64_t>(token) * phase.maxTargets + lane;
      const int64_t slot = static_cast<int64_t>(phase.rank) * phase.maxTokens + entrySlots[entry];
      rows[lane] =
          reinterpret_cast<const uint8_t *>(sh.block.windows[entryRanks[entry]]) + phase.at.combine + slot * p.rowBytes;
    }
    if (wholeBlock) __syncthreads();
    else __syncwarp();
    if (token < end) {
      uint8_t *output =
          p.output + static_cast<int64_t>(token) * p.hiddenSize * sizeof(typename Element<OutDType>::Bits);
      if (p.vectorized) {
        for (int v = from + lane; v < to; v += lanes) {
          sumVector<DType, OutDType>(rows, count, static_cast<int64_t>(v) * 16, output);
        }
      } else {
        for (int h = from + lane; h < to; h += lanes) {
          sumElement<DType, OutDType>(rows, count, h, output);
        }
      }
    }
    if (wholeBlock) __syncthreads();
    else __syncwarp();
  }
}

template <int OutDType>
__device__ void spoil(const CombineParams &p, int tokens) {
  using Out = typename Element<OutDType>::Bits;
  const int64_t elements = static_cast<int64_t>(tokens) * p.hiddenSize;
  for (int64_t i = threadIdx.x; i < elements; i += blockDim.x) {
    reinterpret_cast<Out *>(p.output)[i] = Element<OutDType>::kNaN;
  }
}

// A combine that exchanges nothing moves its messages on all the same, lest they fall behind by half of all numbers.
__device__ void advanceMessages(const CombineParams &p, const BlockState &block) {
  const int source = threadIdx.x;
  if (source < p.phase.ranks && (block.active >> source & 1)) {
    storePacket(p.phase.window + p.phase.at.combine_headers + source * kCombineHeaderBytes, messageOf(p, block));
  }
}

template <int DType, int OutDType>
__global__ void __launch_bounds__(kThreads) combineKernel(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  BlockState &block = sh.block;
  LaneState *lane = laneState(p.phase);
  prepareMessage(p, sh.wait.said);
  const auto *recvCounts = reinterpret_cast<const int32_t *>(p.phase.own + p.phase.at.last_tokens);
  const bool offers = beginPhase(p.phase, MOE_A2A_COMBINE, &lane->numTokens, 0, recvCounts, block);
  MOE_A2A_MARK(2);
  const int tokens = min(max(block.numTokens, 0), p.rows);
  const bool exchanges = p.phase.maxTokens > 0;
  const uint32_t copies = p.copyTickets;
  const uint32_t sums = (tokens + p.tokensPerTile - 1) / p.tokensPerTile * p.splits;
  // Without copies, the block that holds the first ticket publishes at once; it takes part also with no token.
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
      if (countToLast<true>(&lane->done, copied, copies, block.blocked) == kLast) publish(p, block, offers);
      copied = 0;
      if (block.ticket >= all) break;
    }
    if (copies == 0 && block.ticket == 0 && !block.blocked) {
      if (exchanges) publish(p, block, offers);
      else advanceMessages(p, block);
    }
    MOE_A2A_MARK(3);
    if (!waited) {
      waited = true;
      arrived = !block.blocked && (!exchanges || awaitResults(p, sh));
    }
    MOE_A2A_MARK(4);
    if (arrived && block.ticket - copies < sums) sumTile<DType, OutDType>(p, sh, block.ticket - copies, tokens);
    if (all <= blocksAtWork(p.phase)) break;
    takeTicket(lane, block);
  }
  MOE_A2A_MARK(5);
  Last left = countToLast<false>(&lane->exits, 1, gridDim.x, waited && !arrived);
  MOE_A2A_MARK(6);
  if (left == kNotLast) return;
  // All blocks have read. What a reset that left this rank out let others overwrite meanwhile must not pass as good.
  const bool leftOut = left == kLast && threadIdx.x == 0 && isLeftOut(p.phase, block);
  if (leftOut) failLeftOut(p.phase, block.round, MOE_A2A_COMBINE);
  if (__syncthreads_or(leftOut)) left = kLastAfterFailure;
  if (threadIdx.x == 0) {
    endPhase(p.phase, MOE_A2A_COMBINE, block, left == kLast);
    storeRelaxedSys(&lane->round, block.round + 1);
  }
  if (left != kLast) spoil<OutDType>(p, tokens);
}

template <int DType>
const void *functionOf(int outDtype) {
  switch (outDtype) {
    case MOE_A2A_FLOAT32:
      return reinterpret_cast<const void *>(combineKernel<DType, MOE_A2A_FLOAT32>);
    case MOE_A2A_FLOAT16:
      return reinterpret_cast<const void *>(combineKernel<DType, MOE_A2A_FLOAT16>);
    default:
      return reinterpret_cast<const void *>(combineKernel<DType, MOE_A2A_BFLOAT16>);
  }
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_combine(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *combineFunction(int dtype, int outDtype) {
  switch (dtype) {
    case MOE_A2A_FLOAT32:
      return functionOf<MOE_A2A_FLOAT32>(outDtype);
    case MOE_A2A_FLOAT16:
      return functionOf<MOE_A2A_FLOAT16>(outDtype);
    default:
      return functionOf<MOE_A2A_BFLOAT16>(outDtype);
  }
}

}  // namespace moe_a2a
