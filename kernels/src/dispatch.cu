// Dispatch: rows into the peers' windows, then headers that say so; then counts, statistics and padding of what
// arrived.
#include "device/announce.cuh"
#include "device/copy.cuh"
#include "device/piece_flags.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

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

// What is common to all blocks that have sent: the one that completes the pieces publishes, waits, and takes what has
// come. True in the block that did; `arrived` where all went well.
__device__ __forceinline__ bool completeSending(const DispatchParams &p, DispatchShared &sh, uint32_t mine,
                                                uint32_t sends, bool failed, bool badCount, int tokens, bool &arrived) {
  MOE_A2A_MARK(4);
  const Last sent = countSent(&laneState(p.phase)->done, mine, sends, failed, tokens > 0 || p.statsLength > 0);
  MOE_A2A_MARK(5);
  if (sent == kLast && p.scan && tokens > 0) readTotals(p, sh.totals);
  const bool published = sent == kLast && isRight(p, sh, badCount);
  if (published) publish(p, sh, 0);
  if (!__syncthreads_or(sent != kNotLast)) return false;
  arrived = __syncthreads_or(published) && receive(p, sh);
  return true;
}

__global__ void __launch_bounds__(kThreads, kBlocksPerSm) dispatchKernel(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  State state;
  BlockState &block = sh.block;
  prepareMessage(p, sh.wait.said);
  if (threadIdx.x < p.phase.ranks) sh.wait.counts[threadIdx.x] = sh.wait.pieces[threadIdx.x] = 0;
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

const void *dispatchFunction() { return reinterpret_cast<const void *>(dispatchKernel); }

}  // namespace moe_a2a
