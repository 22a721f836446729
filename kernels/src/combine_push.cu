// Combine of a round with many tokens: each rank stores its results into the windows of the ranks of their tokens, row
// after row with a flag for each, while these sum what has come. See docs/protocol.md.
#include <cstddef>

#include "device/copy.cuh"
#include "device/results.cuh"
#include "device/vigil.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

constexpr int kWarps = kThreads / 32;

struct CombineShared {
  BlockState block;
  WaitState wait;
  const uint8_t *rows[kWarps][MOE_A2A_MAX_TOP_K];  // what a warp's token sums up, in order of k
  int32_t received[MOE_A2A_MAX_RANKS];             // rows from each rank that this one sends results to
  int32_t most;
};

__device__ __forceinline__ int64_t rowOf(const PhaseParams &p, int rank, int slot) {
  return static_cast<int64_t>(rank) * p.maxTokens + slot;
}

// This rank's result for a row.
__device__ __forceinline__ const uint8_t *resultOf(const CombineParams &p, int source, int slot) {
  const uint8_t *results = p.expertOutput ? p.expertOutput : p.phase.window + p.phase.at.combine;
  return results + rowOf(p.phase, source, slot) * p.rowBytes;
}

// Where the flag lies that says that a rank's result for a slot has come; the same in all windows. It is the tag of a
// packet without data, so that nothing but tags ever lies there.
__device__ __forceinline__ uint64_t flagAt(const CombineParams &p, int rank, int slot) {
  return p.phase.at.combine_packets + rowOf(p.phase, rank, slot) * sizeof(RowPacket) + offsetof(RowPacket, tag);
}

// The received rows of one share, in ascending slots, turn by turn of the ranks they came from. This rank's own are
// among them where its results have to be gone before peers hear of the round.
class Share {
 public:
  __device__ __forceinline__ Share(const CombineParams &p, const CombineShared &sh, int first, int step)
      : item_(first), step_(step) {
    find(p, sh);
  }
  __device__ __forceinline__ void advance(const CombineParams &p, const CombineShared &sh) {
    item_ += step_;
    find(p, sh);
  }
  __device__ __forceinline__ bool hasMore(const CombineShared &sh) const { return slot < sh.most; }

  int source, slot;

 private:
  __device__ __forceinline__ void find(const CombineParams &p, const CombineShared &sh) {
    const int takers = p.phase.ranks - !p.push.sendsOwn;
    for (;; item_ += step_) {
      slot = item_ / takers;
      // Ranks begin with the one after them, lest all store to the same.
      source = p.phase.rank + 1 + item_ - slot * takers;
      if (source >= p.phase.ranks) source -= p.phase.ranks;
      if (slot >= sh.most || slot < sh.received[source]) return;
    }
  }

  int item_, step_;
};

// How many rows came from each rank that this one sends results to. Whole block.
__device__ __forceinline__ void countReceived(const CombineParams &p, CombineShared &sh) {
  const PhaseParams &phase = p.phase;
  const auto *counts = reinterpret_cast<const int32_t *>(phase.own + phase.at.last_tokens);
  if (threadIdx.x < 32) {
    int most = 0;
    for (int r = threadIdx.x; r < phase.ranks; r += 32) {
      const bool takes = (p.push.sendsOwn || r != phase.rank) && (sh.block.active >> r & 1);
      sh.received[r] = takes ? min(counts[r], phase.maxTokens) : 0;
      most = max(most, sh.received[r]);
    }
    most = __reduce_max_sync(0xffffffff, most);
    if (threadIdx.x == 0) sh.most = most;
  }
  __syncthreads();
}

// Tells the rank of a row that it is there, which a fence of this thread has seen to.
__device__ __forceinline__ void flagRow(const CombineParams &p, const CombineShared &sh, int source, int slot) {
  uint8_t *window = reinterpret_cast<uint8_t *>(sh.block.windows[source]);
  storeRelaxedSys64(reinterpret_cast<uint64_t *>(window + flagAt(p, p.phase.rank, slot)), sh.block.tag);
}

__device__ __forceinline__ uint8_t *pushedRow(const CombineParams &p, const CombineShared &sh, int source, int slot) {
  return reinterpret_cast<uint8_t *>(sh.block.windows[source]) + p.push.rows +
         rowOf(p.phase, p.phase.rank, slot) * p.rowBytes;
}

// Stores a warp's share of the results, and after each row its flag. One warp.
__device__ __forceinline__ void sendShare(const CombineParams &p, const CombineShared &sh, int first, int step) {
  const int laneId = threadIdx.x & 31, vectors = p.rowBytes >> p.copyVectorLog2;
  for (Share share(p, sh, first, step); share.hasMore(sh); share.advance(p, sh)) {
    uint8_t *target = pushedRow(p, sh, share.source, share.slot);
    fanOutAny(
        p.copyVectorLog2, resultOf(p, share.source, share.slot), [&](int) { return target; }, 1, 0, vectors, laneId,
        32);
    __syncwarp();
    if (laneId != 0) continue;
    fenceSys();
    flagRow(p, sh, share.source, share.slot);
  }
}

// Waits until the results of a token are here, and finds where they lie. One warp; `count` of them.
__device__ __forceinline__ Waited awaitRows(const CombineParams &p, CombineShared &sh,
                                            const Vigil<kCombinePackets> &vigil, int64_t token, int &count) {
  const PhaseParams &phase = p.phase;
  const int laneId = threadIdx.x & 31;
  const uint64_t *flag = nullptr;
  uint64_t awaited = 0;
  KeptEntry entry{};
  if (laneId < phase.maxTargets) entry.load(p, token, laneId);
  count = __shfl_sync(0xffffffff, entry.count, 0);
  if (laneId < count) {
    const bool isOwn = entry.rank == phase.rank && !p.push.sendsOwn;
    sh.rows[threadIdx.x >> 5][laneId] =
        isOwn ? resultOf(p, phase.rank, entry.slot)
              : phase.window + p.push.rows + rowOf(phase, entry.rank, entry.slot) * p.rowBytes;
    flag = reinterpret_cast<const uint64_t *>(phase.window + flagAt(p, entry.rank, entry.slot));
    if (!isOwn) awaited = 1ull << entry.rank;
  }
  const Waited waited = vigil.await(kForEver, [&] {
    if (awaited && loadAcquireSys64(flag) == sh.block.tag) awaited = 0;
    return awaited;
  });
  // Orders what any lane reads next after the flags that were acquired before it.
  __syncwarp();
  return waited;
}

// Sums a token's results. One warp.
template <int DType>
__device__ __forceinline__ void sumToken(const CombineParams &p, const CombineShared &sh, int64_t token, int count) {
  const int laneId = threadIdx.x & 31, vectors = p.rowBytes / 16;
  uint8_t *output = outputOf(p, token);
  const auto row = [&](int j) { return sh.rows[threadIdx.x >> 5][j]; };
  if (p.vectorized) {
    for (int v = laneId; v < vectors; v += 32 * kSumColumns) {
      sumVectors<DType>(row, count, v, 32, vectors, p.outDtype, output);
    }
  } else {
    for (int h = laneId; h < p.hiddenSize; h += 32) sumElement<DType>(row, count, h, p.outDtype, output);
  }
}

template <int DType>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) combineByPush(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  State state;
  BlockState &block = sh.block;
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  lookAhead(p.phase, MOE_A2A_COMBINE, state, block);
  awaitTurn(p.phase);
  beginPhase<true>(p.phase, MOE_A2A_COMBINE, state, block);
  if (block.ticket == kNoTicket) return;
  MOE_A2A_MARK(2);
  const int tokens = min(max(block.numTokens, 0), p.rows), laneId = threadIdx.x & 31;
  const uint32_t senders = p.push.senders, first = block.ticket;
  if (first == 0 && threadIdx.x == kKeeper && !block.blocked) beginTogether(p.phase, block, MOE_A2A_COMBINE);
  // Results that lie where peers may store the rows of their next round have to be gone before they hear of this one.
  if (first == 0 && !p.push.headerLast && !block.blocked && threadIdx.x >= kThreads - 32) publish(p, block);
  if (first < senders) countReceived(p, sh);
  uint32_t shares = 0;
  for (; block.ticket < senders; takeTicket(p.phase, MOE_A2A_COMBINE, block), shares++) {
    if (!block.blocked) sendShare(p, sh, block.ticket * kWarps + (threadIdx.x >> 5), senders * kWarps);
  }
  if (shares > 0 && p.push.headerLast && countSent(p.phase, MOE_A2A_COMBINE, shares, senders, block.blocked))
    publish(p, block);
  MOE_A2A_MARK(3);
  // A rank waits for its peers also with no token.
  const bool waits = tokens > 0 || first == 0;
  const Messages messages = messagesOf(p);
  const Vigil<kCombinePackets> vigil(p.phase, block, messages);
  bool arrived = waits && !block.blocked && awaitResults(p, block, messages, sh.wait) == kArrived;
  const auto takeToken = [&] {
    uint32_t token = 0;
    if (laneId == 0) token = addRelaxedGpu(&workOf(p.phase, MOE_A2A_COMBINE).sums, 1);
    return token;
  };
  MOE_A2A_MARK(4);
  for (uint32_t next = takeToken(); arrived;) {
    const int64_t token = __shfl_sync(0xffffffff, next, 0);
    if (token >= tokens) break;
    // Asked for ahead.
    next = takeToken();
    int count;
    arrived = awaitRows(p, sh, vigil, token, count) == kArrived;
    if (arrived) sumToken<DType>(p, sh, token, count);
    __syncwarp();
  }
  MOE_A2A_MARK(5);
  if (first == 0 && threadIdx.x == kKeeper) endCombine(p, block, arrived);
  __syncthreads();
  const bool failed = hasReadTooLate(p, block, arrived) || (waits && !arrived) || (first < senders && block.blocked);
  leaveCombine(p, block, first == 0, failed, true, tokens);
  MOE_A2A_MARK(6);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_combine_push(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *combineByPushFunction(int dtype) {
  return kernelFor(dtype, [](auto element) { return combineByPush<decltype(element)::kDType>; });
}

}  // namespace moe_a2a
