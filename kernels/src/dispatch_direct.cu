// Dispatch of a round whose rows go in one piece of work for each block, which its threads can hold, or of a rank
// without tokens: what most rounds are. Blocks vouch for their own rows, while the first one tells the headers and
// waits.
#include "device/copy.cuh"
#include "device/teller.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

// Learns what the round is, and where all tokens go. `load` asks for what else can be known before that. Whole block.
template <typename Load>
__device__ __forceinline__ void begin(const DispatchParams &p, DispatchShared &sh, Load load) {
  State state;
  lookAhead(p.phase, MOE_A2A_DISPATCH, state, sh.block);
  awaitTurn(p.phase);
  if (threadIdx.x < 32) state.askForTokens(p.tokenCount, p.numTokens);
  // Asked for before anything is known of the round, how many of the tokens count included.
  if (p.numTokens > 0) {
    load();
    lookAtAll(p, sh.tile);
  }
  beginPhase<false>(p.phase, MOE_A2A_DISPATCH, state, sh.block);
  MOE_A2A_MARK(2);
}

// The first block: tells the headers, waits for those of the peers, and then for all rows. True where it failed.
__device__ __forceinline__ bool tellAndReceive(const DispatchParams &p, DispatchShared &sh) {
  const ShortMessage message(p, sh.wait.said);
  FlagWatch watch(p);
  begin(p, sh, [] {});
  const bool badCount = isBadCount(p, sh.block);
  const int tokens = badCount ? 0 : sh.block.numTokens;
  const uint32_t pieces = tokens > 0 ? gridDim.x - 1 : 0;
  bool arrived = false;
  if (!sh.block.blocked) {
    if (threadIdx.x == kKeeper) beginTogether(p.phase, sh.block, MOE_A2A_DISPATCH);
    if (threadIdx.x < 32) addUp(p, sh.block.active, tokens, sh.tile, sh.totals);
    arrived = tell(p, sh, message, badCount, {pieces, pieces}) && receive(p, sh, watch);
    MOE_A2A_MARK(6);
  }
  // Of a blocked dispatch, too: the combine after it has so many rows to spoil.
  if (threadIdx.x == kKeeper) {
    endTogether(p.phase, sh.block, MOE_A2A_DISPATCH, arrived, badCount ? p.numTokens : tokens);
  }
  return !arrived;
}

// Every other block: sends the piece before its own number, and vouches for it. True where it failed.
__device__ __forceinline__ bool sendPiece(const DispatchParams &p, DispatchShared &sh) {
  const uint32_t number = blockIdx.x - 1;
  const Piece piece(p, number, p.numTokens);
  int32_t firstId = -1;
  TokenRows rows;
  begin(p, sh, [&] {
    firstId = piece.firstId(p);
    piece.load(p, rows);
  });
  const int tokens = isBadCount(p, sh.block) ? 0 : sh.block.numTokens;
  // A block that fails leaves a flag out, so that the first one fails, too, and takes nothing for good.
  if (tokens == 0) return false;
  if (sh.block.blocked) return true;
  const int count = max(0, min(piece.count, static_cast<int>(tokens - piece.start)));
  routeTile<false>(p, sh.block, piece.part == 0, piece.start, count, firstId, sh.tile);
  MOE_A2A_MARK(3);
  sendTile<false>(p, sh.block, sh.tile, piece.start, count, rows);
  MOE_A2A_MARK(4);
  __syncthreads();
  if (threadIdx.x < 32) flagPieces(p, sh.block, number, 1);
  MOE_A2A_MARK(5);
  return false;
}

__global__ void __launch_bounds__(kThreads, kBlocksPerSm) dispatchDirectly(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  prepareMessage(p, sh.wait.said);
  clear(p, sh);
  warmUp(p);
  listOwners(p, sh.tile);
  __syncthreads();
  const bool failed = blockIdx.x == 0 ? tellAndReceive(p, sh) : sendPiece(p, sh);
  if (leaveTogether(p.phase, sh.block, MOE_A2A_DISPATCH, failed, false)) spoil(p, sh);
  MOE_A2A_MARK(7);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_dispatch_direct(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *dispatchDirectlyFunction() { return reinterpret_cast<const void *>(dispatchDirectly); }

}  // namespace moe_a2a
