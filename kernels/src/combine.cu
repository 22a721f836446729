// Combine: this rank's results are offered in its own window; their owners read and sum them.
#include "device/agree.cuh"
#include "device/copy.cuh"
#include "device/sum.cuh"
#include "device/wait.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

struct CombineShared {
  BlockState block;
  const uint8_t *rows[kThreads / 32][MOE_A2A_MAX_TOP_K];
  int32_t ends[MOE_A2A_MAX_RANKS];  // running sums of the received rows
  int32_t arrived;
};

// Copies the received rows' results into this rank's window. Whole block; piece `ticket` of `p.copyTickets`.
__device__ void copyIn(const CombineParams &p, CombineShared &sh, int ticket) {
  const PhaseParams &phase = p.phase;
  const auto *recvCounts = reinterpret_cast<const int32_t *>(phase.own + phase.at.recv_counts);
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

// Tells all active ranks, this one too, that this rank's results may be read. Whole block.
__device__ void publish(const CombineParams &p, BlockState &block) {
  const PhaseParams &phase = p.phase;
  LaneState *lane = laneState(phase);
  const int thread = threadIdx.x;
  if (thread == 0) {
    const bool failed = loadRelaxedSys(&lane->phaseFailed) || loadRelaxedSys(&rankState(phase)->failed) ||
                        loadRelaxedSys(&rankState(phase)->stopped) == kStopAll;
    if (failed) markPhaseFailed(lane);
    block.flag = failed;
  }
  __syncthreads();
  const bool failed = block.flag;
  __syncthreads();
  if (failed) return;
  const bool told = thread < phase.ranks && (block.active >> thread & 1);
  if (told) {
    const Vector<4> words{{static_cast<uint32_t>(block.generation), block.round, static_cast<uint32_t>(p.hiddenSize),
                           static_cast<uint32_t>(p.dtype)}};
    words.store(reinterpret_cast<uint8_t *>(block.windows[thread]) + phase.at.combine_headers +
                phase.rank * kCombineHeaderBytes);
  }
  delay(phase.delays.beforeFlag);
  if (told) {
    fenceSys();
    storeRelaxedSys(reinterpret_cast<uint32_t *>(block.windows[thread] + phase.at.combine_flags +
                                                 phase.rank * kFlagStride),
                    block.round);
  }
  delay(phase.delays.afterFlag);
}

// Waits for all peers, and compares what they said. Whole block.
__device__ bool awaitResults(const CombineParams &p, CombineShared &sh) {
  const PhaseParams &phase = p.phase;
  if (threadIdx.x < 32) {
    const Waiting waiting{phase, sh.block, MOE_A2A_COMBINE, phase.at.combine_flags, globalNanoseconds()};
    bool arrived = waitForPeers(waiting, nullptr) &&
                   ranksAgree(phase, sh.block, MOE_A2A_COMBINE, kCombineFields, phase.at.combine_headers,
                              kCombineHeaderBytes);
    if (arrived && loadRelaxedSys(controlWord(phase, kAlarmWord))) {
      const int told =
          findVerdict(phase, sh.block.active, sh.block.generation, phaseNumber(sh.block.round, MOE_A2A_COMBINE));
      if (told >= 0 && threadIdx.x == 0) failAsTold(phase, told);
      arrived = told < 0;
    }
    if (threadIdx.x == 0) sh.arrived = arrived;
  }
  __syncthreads();
  delay(phase.delays.afterWait);
  return sh.arrived != 0;
}

// Sums one part of each row of a tile of tokens.
template <int DType, int OutDType>
__device__ void sumTile(const CombineParams &p, CombineShared &sh, int ticket, int tokens) {
  const PhaseParams &phase = p.phase;
  const int lanes = p.blockPerToken ? blockDim.x : 32;
  const int group = threadIdx.x / lanes, groups = blockDim.x / lanes, lane = threadIdx.x % lanes;
  const uint8_t **rows = sh.rows[group];
  const int tile = ticket / p.splits, part = ticket % p.splits;
  const int start = tile * p.tokensPerTile, end = min(start + p.tokensPerTile, tokens);
  const auto *entryCounts = phase.own + phase.at.entry_counts;
  const auto *entryRanks = phase.own + phase.at.entry_ranks;
  const auto *entrySlots = reinterpret_cast<const int32_t *>(phase.own + phase.at.entry_slots);
  const int rounds = (end - start + groups - 1) / groups;
  for (int i = 0; i < rounds; i++) {
    const int token = start + i * groups + group;
    const int count = token < end ? entryCounts[token] : 0;
    if (lane < count) {
      const int64_t entry = static_cast<int64_t>(token) * phase.maxTargets + lane;
      const int64_t slot = static_cast<int64_t>(phase.rank) * phase.maxTokens + entrySlots[entry];
      rows[lane] = reinterpret_cast<const uint8_t *>(sh.block.windows[entryRanks[entry]]) + phase.at.combine +
                   slot * p.rowBytes;
    }
    if (p.blockPerToken) __syncthreads();
    else __syncwarp();
    if (token < end) {
      uint8_t *output = p.output + static_cast<int64_t>(token) * p.hiddenSize * sizeof(typename Element<OutDType>::Bits);
      if (p.vectorized) {
        const int vectors = p.rowBytes / 16;
        const int to = partStart(vectors, part + 1, p.splits);
        for (int v = partStart(vectors, part, p.splits) + lane; v < to; v += lanes) {
          sumVector<DType, OutDType>(rows, count, static_cast<int64_t>(v) * 16, output);
        }
      } else {
        const int to = partStart(p.hiddenSize, part + 1, p.splits);
        for (int h = partStart(p.hiddenSize, part, p.splits) + lane; h < to; h += lanes) {
          sumElement<DType, OutDType>(rows, count, h, output);
        }
      }
    }
    if (p.blockPerToken) __syncthreads();
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

// A combine that exchanges nothing moves its flags on all the same, lest they fall behind by half of all numbers.
__device__ void advanceFlags(const PhaseParams &p, const BlockState &block) {
  if (threadIdx.x < p.ranks && (block.active >> threadIdx.x & 1)) {
    storeRelaxedSys(reinterpret_cast<uint32_t *>(p.window + p.at.combine_flags + threadIdx.x * kFlagStride), block.round);
  }
}

template <int DType, int OutDType>
__global__ void __launch_bounds__(kThreads) combineKernel(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  BlockState &block = sh.block;
  LaneState *lane = laneState(p.phase);
  beginPhase(p.phase, MOE_A2A_COMBINE, &lane->numTokens, 0, block);
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
      if (countDone(lane, block, copied, copies) && exchanges) publish(p, block);
      copied = 0;
      if (block.ticket >= all) break;
    }
    if (copies == 0 && block.ticket == 0) {
      if (exchanges) publish(p, block);
      else advanceFlags(p.phase, block);
    }
    if (!waited) {
      waited = true;
      arrived = !block.blocked && (!exchanges || awaitResults(p, sh));
    }
    if (arrived && block.ticket - copies < sums) sumTile<DType, OutDType>(p, sh, block.ticket - copies, tokens);
    if (all <= gridDim.x) break;
    takeTicket(lane, block);
  }
  if (!leavesLast(lane, block)) return;
  const bool succeeded = endPhase(p.phase, MOE_A2A_COMBINE, block);
  if (threadIdx.x == 0) storeRelaxedSys(&lane->round, block.round + 1);
  if (!succeeded) spoil<OutDType>(p, tokens);
}

template <int DType>
const void *functionOf(int outDtype) {
  switch (outDtype) {
    case MOE_A2A_FLOAT32: return reinterpret_cast<const void *>(combineKernel<DType, MOE_A2A_FLOAT32>);
    case MOE_A2A_FLOAT16: return reinterpret_cast<const void *>(combineKernel<DType, MOE_A2A_FLOAT16>);
    default: return reinterpret_cast<const void *>(combineKernel<DType, MOE_A2A_BFLOAT16>);
  }
}

}  // namespace

const void *combineFunction(int dtype, int outDtype) {
  switch (dtype) {
    case MOE_A2A_FLOAT32: return functionOf<MOE_A2A_FLOAT32>(outDtype);
    case MOE_A2A_FLOAT16: return functionOf<MOE_A2A_FLOAT16>(outDtype);
    default: return functionOf<MOE_A2A_BFLOAT16>(outDtype);
  }
}

}  // namespace moe_a2a
