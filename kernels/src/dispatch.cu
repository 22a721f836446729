// Dispatch of a round with many tokens, or with rows that threads cannot hold: blocks take pieces of work by tickets,
// send them, and vouch for them, while one tells the headers and waits.
#include "device/copy.cuh"
#include "device/scan.cuh"
#include "device/teller.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

// With fewer blocks, one that does not send is missed.
constexpr uint32_t kManyBlocks = 128;

// What a block knows of the work. Tickets: one to tell, then one for each piece of rows, then some to fill padding.
struct Task {
  int tokens;
  uint32_t pieces;
  bool badCount;

  __device__ __forceinline__ Task(const DispatchParams &p, const BlockState &block) : badCount(isBadCount(p, block)) {
    tokens = badCount ? 0 : block.numTokens;
    pieces = (tokens + p.tokensPerTile - 1) / p.tokensPerTile * p.splits;
  }
  __device__ __forceinline__ bool sends(uint32_t ticket) const { return ticket <= pieces; }
  // Which share of the padding a ticket stands for; the block that tells has the first.
  __device__ __forceinline__ uint32_t shareOf(uint32_t ticket) const { return ticket - pieces; }
  __device__ __forceinline__ bool hasWork(uint32_t ticket, int shares) const {
    return sends(ticket) || shareOf(ticket) < static_cast<uint32_t>(shares);
  }
};

// Sends the pieces whose tickets this block gets, and tells how many these were. False where the phase has failed.
// Whole block.
__device__ __forceinline__ bool sendPieces(const DispatchParams &p, DispatchShared &sh, const Task &task,
                                           uint32_t &sent) {
  BlockState &block = sh.block;
  for (; task.sends(block.ticket); takeTicket(p.phase, MOE_A2A_DISPATCH, block)) {
    const Piece piece(p, block.ticket - 1, task.tokens);
    const int32_t firstId = piece.firstId(p);
    const bool records = piece.part == 0;
    if (!p.scan) {
      routeTile<false>(p, block, records, piece.start, piece.count, firstId, sh.tile);
    } else if (!routeByScan(p, block, piece.tile, records, piece.start, piece.count, task.tokens, firstId, sh.tile)) {
      return false;
    }
    MOE_A2A_MARK(3);
    TokenRows rows;
    piece.load(p, rows);
    sendTile<true>(p, block, sh.tile, piece.start, piece.count, rows);
    sent++;
  }
  return true;
}

// Fills the shares of the padding whose tickets this block gets. False where the phase has failed. Whole block.
__device__ __forceinline__ bool fillShares(const DispatchParams &p, DispatchShared &sh, const Task &task) {
  const auto shares = static_cast<uint32_t>(p.receivers);
  if (task.shareOf(sh.block.ticket) >= shares) return true;
  if (awaitArrival(p, sh, messagesOf(p, sh.block), false) != kArrived) return false;
  for (; task.shareOf(sh.block.ticket) < shares; takeTicket(p.phase, MOE_A2A_DISPATCH, sh.block)) {
    fillPadding(p, sh.wait.counts, static_cast<int>(task.shareOf(sh.block.ticket)), p.receivers);
  }
  return true;
}

// Finds out what all tokens come to, and tells it. False where the phase has failed. Whole block.
__device__ __noinline__ bool addUpAndTell(const DispatchParams &p, DispatchShared &sh, Task task, uint32_t blocks) {
  if (p.scan && task.tokens > 0) {
    if (!addUpWords(p, sh.block, task.tokens, sh.totals)) return false;
  } else if (threadIdx.x < 32) {
    addUp(p, sh.block.active, task.tokens, sh.tile, sh.totals);
  }
  return tell(p, sh, ShortMessage(p, sh.wait.said), task.badCount, {task.pieces, task.pieces ? blocks : 0});
}

__global__ void __launch_bounds__(kThreads, kBlocksPerSm) dispatchKernel(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  State state;
  BlockState &block = sh.block;
  prepareMessage(p, sh.wait.said);
  clear(p, sh);
  if (threadIdx.x < p.phase.ranks) sh.tile.first[threadIdx.x] = 0;
  if (threadIdx.x == 0) sh.tile.word = 0;
  warmUp(p);
  listOwners(p, sh.tile);
  __syncthreads();
  lookAhead(p.phase, MOE_A2A_DISPATCH, state, block);
  awaitTurn(p.phase);
  if (threadIdx.x < 32) state.askForTokens(p.tokenCount, p.numTokens);
  if (!p.scan) lookAtAll(p, sh.tile);
  beginPhase<true>(p.phase, MOE_A2A_DISPATCH, state, block);
  if (block.ticket == kNoTicket) return;
  MOE_A2A_MARK(2);

  const Task task(p, block);
  const uint32_t blocks = blocksAtWork(p.phase);
  const bool tells = block.ticket == 0, isOneOfMany = blocks >= kManyBlocks;
  // What a scan comes to is known when the last ticket is taken, or before.
  const bool tellsLater = blocks == 1 || (p.scan && !isOneOfMany);
  // One that finds nothing to do need not fail, though it may be late, and others have ended the phase.
  bool failed = block.blocked && (tells || task.hasWork(block.ticket, p.receivers));
  if (tells && !failed && threadIdx.x == kKeeper) beginTogether(p.phase, block, MOE_A2A_DISPATCH);
  if (tells && !failed && !tellsLater) failed = !addUpAndTell(p, sh, task, blocks);
  if (!block.blocked && !failed && !(tells && isOneOfMany)) {
    if (tells) takeTicket(p.phase, MOE_A2A_DISPATCH, block);
    uint32_t sent = 0;
    failed = !sendPieces(p, sh, task, sent);
    MOE_A2A_MARK(4);
    __syncthreads();
    if (!failed && sent > 0 && threadIdx.x < 32) flagPieces(p, block, block.number, sent);
    MOE_A2A_MARK(5);
  }
  if (tells) {
    if (!failed && tellsLater) failed = !addUpAndTell(p, sh, task, blocks);
    FlagWatch watch(p);
    failed = failed || !receive(p, sh, watch);
    // Of a blocked dispatch, too: the combine after it has so many rows to spoil.
    if (threadIdx.x == kKeeper) {
      endTogether(p.phase, block, MOE_A2A_DISPATCH, !failed, task.badCount ? p.numTokens : task.tokens);
    }
  }
  if (!block.blocked && !failed && block.ticket > task.pieces) failed = !fillShares(p, sh, task);
  // What a block spoils that fails comes after what this one has taken.
  if (leaveTogether(p.phase, block, MOE_A2A_DISPATCH, failed, p.receivers > 1)) spoil(p, sh);
  MOE_A2A_MARK(7);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_dispatch(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *dispatchFunction() { return reinterpret_cast<const void *>(dispatchKernel); }

}  // namespace moe_a2a
