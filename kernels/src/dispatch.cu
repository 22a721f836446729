// Dispatch: rows into the peers' windows, then headers that say so; then counts, statistics and padding of what
// arrived.
#include "device/announce.cuh"
#include "device/copy.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

__device__ __noinline__ void sendStats(const DispatchParams &p, const BlockState &block) {
  const uint64_t offset = statsAt(p, block.round, p.phase.rank);
#pragma unroll 1
  for (int peer = 0; peer < p.phase.ranks; peer++) {
    if (!(block.active >> peer & 1)) continue;
    auto *target = reinterpret_cast<int32_t *>(block.windows[peer] + offset);
#pragma unroll 1
    for (int i = threadIdx.x; i < p.statsLength; i += blockDim.x) target[i] = p.stats[i];
  }
}

// Reads what the blocks of a scan have found out together. One warp.
__device__ __noinline__ void readTotals(const DispatchParams &p, Totals &totals) {
  LaneState *lane = laneState(p.phase);
  const int laneId = threadIdx.x & 31;
  const auto *sendCounts = reinterpret_cast<const int32_t *>(p.phase.own + p.phase.at.send_counts);
  for (int r = laneId; r < p.phase.ranks; r += 32) totals.sent[r] = loadRelaxedSys(sendCounts + r);
  if (laneId < 3) totals.dropped[laneId] = loadRelaxedSys(&lane->dropped[laneId]);
  if (laneId == 3) totals.badEntry = loadRelaxedGpu64(&lane->badEntry);
  __syncwarp();
}

// Publishes unless a device-side argument is wrong. One warp; true where it did.
__device__ __forceinline__ bool finishSending(const DispatchParams &p, DispatchShared &sh, bool badCount,
                                              bool hasTokens) {
  if (p.scan && hasTokens) readTotals(p, sh.totals);
  const bool bad = badCount || sh.totals.badEntry;
  if (bad && (threadIdx.x & 31) == 0) failOnArgument(p, sh, badCount);
  if (bad) return false;
  MOE_A2A_MARK(6);
  publish(p, sh);
  MOE_A2A_MARK(7);
  return true;
}

// A piece of outgoing work: one part of each row of a tile of tokens.
struct Piece {
  int tile, part, count;
  int64_t start;

  __device__ __forceinline__ Piece(const DispatchParams &p, uint32_t ticket, int tokens) {
    tile = ticket / p.splits;
    part = ticket - tile * p.splits;
    start = static_cast<int64_t>(tile) * p.tokensPerTile;
    count = min(p.tokensPerTile, static_cast<int>(tokens - start));
  }

  // The id by which this thread routes its warp's first token.
  __device__ __forceinline__ int32_t firstId(const DispatchParams &p) const {
    const int warp = threadIdx.x >> 5;
    return warp < count ? laneIdOf(p, start + warp) : -1;
  }
  // Loads this thread's share of the first row that it sends.
  __device__ __forceinline__ void load(const DispatchParams &p, TokenRows &rows) const {
    const int group = threadIdx.x >> p.lanesLog2;
    rows.begin(p, part);
    if (group < count) rows.load(p, start + group);
  }
};

// What is common to all blocks that have sent: the one that completes the pieces publishes, waits, and takes what has
// come. True in the block that did; `arrived` where all went well.
__device__ __forceinline__ bool completeSending(const DispatchParams &p, DispatchShared &sh, uint32_t mine,
                                                uint32_t sends, bool failed, bool badCount, int tokens, bool &arrived) {
  MOE_A2A_MARK(4);
  const Last sent = countSent(&laneState(p.phase)->done, mine, sends, failed, tokens > 0 || p.statsLength > 0);
  MOE_A2A_MARK(5);
  const bool published = sent == kLast && finishSending(p, sh, badCount, tokens > 0);
  if (!__syncthreads_or(sent != kNotLast)) return false;
  arrived = __syncthreads_or(published) && awaitArrival(p, sh, true) == kArrived;
  MOE_A2A_MARK(8);
  if (!arrived) return true;
  takeCounts(p, sh);
  MOE_A2A_MARK(9);
  fillPadding(p, sh.wait.counts, 0, p.receivers);
  return true;
}

// Each block has the piece of its own number, which its threads can hold, or the rank has no token. This is what most
// rounds are, so it has a kernel without anything else in it.
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) dispatchDirectly(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  State state;
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  listOwners(p, sh.tile);
  __syncthreads();
  lookAhead(p.phase, MOE_A2A_DISPATCH, state, sh.block);
  awaitTurn(p.phase);
  if (threadIdx.x < 32) state.askForTokens(p.tokenCount, p.numTokens);
  // Whatever can be known of the tokens is asked for before anything is known of the round, how many of them count
  // included.
  const Piece piece(p, blockIdx.x, p.numTokens);
  int32_t firstId = -1;
  TokenRows rows;
  if (p.numTokens > 0) {
    firstId = piece.firstId(p);
    piece.load(p, rows);
    lookAtAll(p, sh.tile);
  }
  beginPhase<false>(p.phase, MOE_A2A_DISPATCH, state, sh.block);
  MOE_A2A_MARK(2);
  const bool failed = sh.block.blocked;
  const bool badCount = isBadCount(p, sh.block);
  const int tokens = badCount ? 0 : sh.block.numTokens;
  if (tokens == 0) clear(sh.totals);
  if (!failed) {
    if (p.statsLength && blockIdx.x == 0) sendStats(p, sh.block);
    if (tokens > 0) {
      // The last warp has no token to route where there are few.
      if (threadIdx.x >= kThreads - 32) addUp(p, sh.block.active, tokens, sh.tile, sh.totals);
      const int count = max(0, min(piece.count, static_cast<int>(tokens - piece.start)));
      routeCounted(p, sh.block, piece.part == 0, piece.start, count, firstId, sh.tile);
      MOE_A2A_MARK(3);
      sendTile<false>(p, sh.block, sh.tile, piece.start, count, rows);
    }
  }
  bool arrived = false;
  if (!completeSending(p, sh, 1, gridDim.x, failed, badCount, tokens, arrived)) return;
  if (threadIdx.x == 0) endDispatch(p, sh, badCount ? p.numTokens : tokens, arrived);
  if (!arrived) spoil(p, sh);
  MOE_A2A_MARK(10);
}

__global__ void __launch_bounds__(kThreads, kBlocksPerSm) dispatchKernel(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  State state;
  BlockState &block = sh.block;
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  listOwners(p, sh.tile);
  __syncthreads();
  lookAhead(p.phase, MOE_A2A_DISPATCH, state, block);
  awaitTurn(p.phase);
  if (threadIdx.x < 32) state.askForTokens(p.tokenCount, p.numTokens);
  if (!p.scan) lookAtAll(p, sh.tile);
  beginPhase<true>(p.phase, MOE_A2A_DISPATCH, state, block);
  MOE_A2A_MARK(2);
  LaneState *lane = laneState(p.phase);

  const bool badCount = isBadCount(p, block);
  const int tokens = badCount ? 0 : block.numTokens;
  const uint32_t tiles = (tokens + p.tokensPerTile - 1) / p.tokensPerTile;
  const uint32_t sends = tokens == 0 ? 1 : tiles * p.splits;
  const uint32_t all = sends + p.receivers - 1;
  // Every block has exactly one piece to send: whoever completes them all is the last at work.
  const bool oneEach = all == sends && sends == gridDim.x && sends <= static_cast<uint32_t>(p.phase.maxBlocks);

  uint32_t mine = 0;
  if (tokens == 0) clear(sh.totals);
  bool failed = block.blocked, added = false;
  while (block.ticket < sends) {
    if (block.ticket == 0 && p.statsLength && !failed) sendStats(p, block);
    if (tokens > 0 && !failed) {
      const Piece piece(p, block.ticket, tokens);
      const int32_t firstId = piece.firstId(p);
      if (!p.scan && !added && threadIdx.x >= kThreads - 32) addUp(p, block.active, tokens, sh.tile, sh.totals);
      added = true;
      if (p.scan)
        failed =
            !routeByScan(p, block, piece.tile, piece.part == 0, piece.start, piece.count, tokens, firstId, sh.tile);
      else routeCounted(p, block, piece.part == 0, piece.start, piece.count, firstId, sh.tile);
      MOE_A2A_MARK(3);
      TokenRows rows;
      piece.load(p, rows);
      if (!failed) sendTile<true>(p, block, sh.tile, piece.start, piece.count, rows);
    }
    mine++;
    if (oneEach) break;
    takeTicket(lane, block);
  }
  bool arrived = false;
  const bool isLast = mine > 0 && completeSending(p, sh, mine, sends, failed, badCount, tokens, arrived);
  bool waited = isLast;
  while (block.ticket >= sends && block.ticket < all) {
    if (!waited) arrived = !block.blocked && awaitArrival(p, sh, false) == kArrived;
    waited = true;
    if (arrived) fillPadding(p, sh.wait.counts, block.ticket - sends + 1, p.receivers);
    takeTicket(lane, block);
  }
  Last left = !isLast ? kNotLast : arrived ? kLast : kLastAfterFailure;
  if (!oneEach) {
    __syncthreads();
    left = countLeft(&lane->exits, block.blocked || (waited && !arrived), block);
  }
  if (left == kNotLast) return;
  if (threadIdx.x == 0) endDispatch(p, sh, badCount ? p.numTokens : tokens, left == kLast);
  if (left != kLast) spoil(p, sh);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_dispatch(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *dispatchFunction(bool direct) {
  return reinterpret_cast<const void *>(direct ? dispatchDirectly : dispatchKernel);
}

}  // namespace moe_a2a
