// Dispatch: rows into the peers' windows, then headers that say so; then counts, statistics and padding of what
// arrived.
#include "device/announce.cuh"
#include "device/copy.cuh"
#include "device/piece_flags.cuh"
#include "device/together.cuh"
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
__device__ __forceinline__ bool announce(const DispatchParams &p, const DispatchShared &sh, bool badCount, int pieces) {
  const bool bad = badCount || sh.totals.badEntry;
  if (!bad) publish(p, sh, pieces);
  else if ((threadIdx.x & 31) == 0) failOnArgument(p, sh, badCount);
  return !bad;
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
  if (sent == kLast && p.scan && tokens > 0) readTotals(p, sh.totals);
  const bool published = sent == kLast && announce(p, sh, badCount, 0);
  if (!__syncthreads_or(sent != kNotLast)) return false;
  arrived = __syncthreads_or(published) && receive(p, sh);
  return true;
}

// The first block of a dispatch tells the headers and waits for those of the peers, while the others send.
__device__ __forceinline__ bool tellAndReceive(const DispatchParams &p, DispatchShared &sh, bool badCount, int tokens) {
  if (threadIdx.x == kKeeper) beginTogether(p.phase, sh.block, MOE_A2A_DISPATCH);
  if (p.statsLength) {
    sendStats(p, sh.block);
    __syncthreads();
  }
  bool published = false;
  if (threadIdx.x < 32) {
    if (p.statsLength) fenceSys();
    if (tokens > 0) addUp(p, sh.block.active, tokens, sh.tile, sh.totals);
    else clear(sh.totals);
    published = announce(p, sh, badCount, tokens > 0 ? gridDim.x - 1 : 0);
  }
  MOE_A2A_MARK(3);
  return __syncthreads_or(published) && receive(p, sh);
}

// Each block but the first has the piece before its own number, which its threads can hold. This is what most rounds
// are, so it has a kernel without anything else in it.
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) dispatchDirectly(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  State state;
  const PhaseParams &phase = p.phase;
  const bool isFirst = blockIdx.x == 0;
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  listOwners(p, sh.tile);
  __syncthreads();
  lookAhead(phase, MOE_A2A_DISPATCH, state, sh.block);
  awaitTurn(phase);
  if (threadIdx.x < 32) state.askForTokens(p.tokenCount, p.numTokens);
  // Whatever can be known of the tokens is asked for before anything is known of the round, how many of them count
  // included.
  const Piece piece(p, isFirst ? 0 : blockIdx.x - 1, p.numTokens);
  int32_t firstId = -1;
  TokenRows rows;
  if (p.numTokens > 0) {
    if (!isFirst) {
      firstId = piece.firstId(p);
      piece.load(p, rows);
    }
    lookAtAll(p, sh.tile);
  }
  beginPhase<false>(phase, MOE_A2A_DISPATCH, state, sh.block);
  MOE_A2A_MARK(2);
  bool failed = sh.block.blocked;
  const bool badCount = isBadCount(p, sh.block);
  const int tokens = badCount ? 0 : sh.block.numTokens;
  if (isFirst && !failed) {
    failed = !tellAndReceive(p, sh, badCount, tokens);
    MOE_A2A_MARK(7);
    if (threadIdx.x == kKeeper) {
      endTogether(phase, sh.block, MOE_A2A_DISPATCH, !failed, badCount ? p.numTokens : tokens);
    }
  } else if (tokens > 0 && !failed) {
    const int count = max(0, min(piece.count, static_cast<int>(tokens - piece.start)));
    routeCounted(p, sh.block, piece.part == 0, piece.start, count, firstId, sh.tile);
    MOE_A2A_MARK(3);
    sendTile<false>(p, sh.block, sh.tile, piece.start, count, rows);
    MOE_A2A_MARK(4);
    __syncthreads();
    if (threadIdx.x < 32) flagPiece(p, sh.block, blockIdx.x - 1);
    MOE_A2A_MARK(5);
  }
  if (leaveTogether(phase, sh.block, MOE_A2A_DISPATCH, failed, false)) spoil(p, sh);
  MOE_A2A_MARK(8);
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
  if (tokens == 0 && threadIdx.x < 32) clear(sh.totals);
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
    if (!waited) arrived = !block.blocked && awaitArrival(p, sh, messagesOf(p, block), false) == kArrived;
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
