// Dispatch of a round with few tokens: rows go as packets into the packet areas of the ranks that they are for, their
// own rank among them, and from there each rank takes them into its receive buffer. Headers say how many to expect, and
// go as soon as that is known. See docs/protocol.md.
//
// A phase is a chain of latencies here: what the arguments alone decide is worked out before the kernels before are
// done.
#include "device/announce.cuh"
#include "device/packet_rows.cuh"
#include "device/pieces.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

// Takes a row's packets from a peer into the receive buffer, unless its header says that there is no such row. One
// warp.
__device__ __forceinline__ Waited receive(const Vigil<kDispatchPackets> &vigil, const BlockState &block,
                                          const Incoming &row, const uint8_t *header, int patience) {
  bool isKnown = false, isThere = true;
  RowPacket held[kHeldPackets] = {};
  const uint8_t *packets = row.packets + row.first * kPacketBytes;
  const Waited waited = vigil.await(patience, [&]() -> uint64_t {
    bool pending = false;
#pragma unroll
    for (int h = 0; h < kHeldPackets; h++) {
      if (row.has(h) && held[h].tag != block.tag) held[h] = loadRowPacket(packets + h * kThreads * kPacketBytes);
    }
    if (!isKnown) {
      const Packet said = peekPacket(header);
      isKnown = __all_sync(0xffffffff, !earlier(said.round, block.round));
      if (isKnown) isThere = row.slot < static_cast<int>(said.words[kWordCount % 3]);
    }
#pragma unroll
    for (int h = 0; h < kHeldPackets; h++) pending |= row.has(h) && held[h].tag != block.tag;
    return pending && isThere ? 1ull << row.source : 0;
  });
  if (waited != kArrived || !isThere) return waited;
#pragma unroll
  for (int h = 0; h < kHeldPackets; h++) {
    if (row.has(h)) storeUpTo8(row.target[h], held[h].data, row.widths[h]);
  }
  return kArrived;
}

// Takes counts and a report into private memory, and fills padding: each warp has its own share of it. Whole block.
class Taking {
 public:
  __device__ __forceinline__ explicit Taking(const DispatchParams &p) : perRow_(0), target_(nullptr) {
    if (p.idPayload < 0) return;
    const PayloadParams &ids = p.payloads[p.idPayload];
    perRow_ = ids.rowBytes >> 2;
    perSource_ = p.phase.maxTokens * perRow_;
    first_ = static_cast<int>(threadIdx.x) - kFirstThread;
    source_ = first_ < 0 || perSource_ == 0 ? 0 : first_ / perSource_;
    target_ = reinterpret_cast<int32_t *>(p.phase.window + ids.target);
  }

  __device__ __forceinline__ void operator()(const DispatchParams &p, const DispatchShared &sh) const {
    const int thread = threadIdx.x;
    if (thread < 64) takeCounts(p, sh);
    if (p.fillPadding) fillPadding(p, sh.wait.counts, 0, 1);
    else if (first_ >= 0 && target_) fill(p, sh.wait.counts);
  }

 private:
  static constexpr int kFirstThread = 64;

  __device__ __forceinline__ void fill(const DispatchParams &p, const int32_t *counts) const {
    for (int i = first_, source = source_; i < perSource_ * p.phase.ranks; i += kThreads - kFirstThread) {
      if (i != first_) source = i / perSource_;
      if (i - source * perSource_ >= counts[source] * perRow_) target_[i] = p.invalidId;
    }
  }

  int perRow_, perSource_, first_, source_;
  int32_t *target_;
};

__global__ void __launch_bounds__(kThreads, kPacketBlocksPerSm)
    dispatchInPackets(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  State state;
  BlockState &block = sh.block;
  const PhaseParams &phase = p.phase;
  const int thread = threadIdx.x, pieces = p.packets.pieces, items = p.numTokens * p.packets.sendSplits;
  const int receives = phase.ranks * phase.maxTokens * p.packets.receiveSplits;
  // The first piece is to tell the headers, where there is more than one.
  const int firstItem = pieces == 1 ? 0 : static_cast<int>(blockIdx.x) - 1;
  // Rows are shared out from the last block on, as the first has the headers to wait for.
  const int firstReceived = gridDim.x - 1 - blockIdx.x;
  prepareMessage(p, sh.wait.said);
  clear(p, sh);
  warmUp(p);
  for (int word = 0; word * 32 < p.numTokens; word++) {
    if (thread < phase.ranks) sh.tile.goes[word][thread] = 0;
    if (thread == 0) sh.tile.drops[word] = 0;
  }
  Outgoing outgoing(p, max(firstItem, 0));
  Incoming incoming(p, firstReceived);
  // The first warp has the state of the rank to ask for.
  const int firstEntry = (thread + kThreads - 32) % kThreads;
  const int entryToken = firstEntry / phase.topK, entryK = firstEntry - entryToken * phase.topK;
  const bool looksAhead = firstItem >= 0 && static_cast<int>(blockIdx.x) < pieces && firstItem < items;
  const Taking take(p);
  __syncthreads();
  const ShortMessage message(p, sh.wait.said);

  lookAhead(phase, MOE_A2A_DISPATCH, state, block);
  awaitTurn(phase);
  if (thread < 32) state.askForTokens(p.tokenCount, p.numTokens);
  // Asked for before anything is known of the round.
  if (looksAhead) outgoing.load();
  if (entryToken < p.numTokens) lookAtEntry(p, sh.tile, entryToken, entryK);
  for (int i = firstEntry + kThreads; i < p.numTokens * phase.topK; i += kThreads) {
    lookAtEntry(p, sh.tile, i / phase.topK, i % phase.topK);
  }
  beginPhase<false>(phase, MOE_A2A_DISPATCH, state, block);
  MOE_A2A_MARK(2);
  const bool badCount = isBadCount(p, block);
  const int tokens = badCount ? 0 : block.numTokens;
  const uint64_t headers = headersAt(phase, block.round);
  const Messages messages = messagesOf(p, block);
  const Vigil<kDispatchPackets> vigil(phase, block, messages);
  Waited waited = kFailed;
  int piece = blockIdx.x, patience = kPatience;
  bool isAhead = looksAhead, isPlanned = true;
  if (thread == kKeeper && blockIdx.x == 0 && !block.blocked) beginTogether(phase, block, MOE_A2A_DISPATCH);
  while (!block.blocked) {
    if (piece < pieces) {
      if (thread == 0) takePiece(phase, block, MOE_A2A_DISPATCH, piece);
      if (thread >= kThreads - 32 && piece == 0) {
        addUp(p, block.active, tokens, sh.tile, sh.totals);
        announce(p, sh, message, badCount, {});
      }
      const int end = piece == 0 && pieces > 1 ? 0 : items;
      for (int item = max(0, piece - 1); item < end; item += max(1, pieces - 1)) {
        if (!isAhead) outgoing = Outgoing(p, item);
        if (outgoing.token >= tokens) break;
        if (!isAhead) outgoing.load();
        isAhead = false;
        const Targets targets(p, block, sh.tile, outgoing.token);
        targets.send(block, outgoing);
        while (outgoing.first - thread + kThreads * kHeldPackets < outgoing.to) {
          outgoing.plan(p, outgoing.first + kThreads * kHeldPackets);
          outgoing.load();
          targets.send(block, outgoing);
        }
        MOE_A2A_MARK(3);
        if (outgoing.part == 0 && thread >= kThreads - 32) targets.keep(p, block, outgoing.token);
      }
      isAhead = false;
    }
    MOE_A2A_MARK(4);
    waited = kArrived;
    if (blockIdx.x == 0) {
      if (isPlanned &&
          comesSoon<kDispatchPackets, false>(phase, block, messages, kWordCount, sh.wait, waitsOf(p, block))) {
        waited = kArrived;
      } else {
        waited = awaitArrival(p, sh, messages, true, patience);
      }
      MOE_A2A_MARK(5);
      if (waited == kArrived) take(p, sh);
    }
    MOE_A2A_MARK(6);
    for (int item = firstReceived; item < receives && waited == kArrived; item += gridDim.x) {
      if (!isPlanned) incoming = Incoming(p, item);
      isPlanned = false;
      if (!(block.active >> incoming.source & 1)) continue;
      const uint8_t *header =
          phase.window + headers + incoming.source * kDispatchHeaderBytes + kWordCount / 3 * sizeof(Packet);
      while (incoming.first - (thread & 31) < incoming.to) {
        waited = receive(vigil, block, incoming, header, patience);
        if (waited != kArrived) break;
        incoming.plan(p, incoming.first + kThreads * kHeldPackets);
      }
    }
    isPlanned = false;
    MOE_A2A_MARK(7);
    if (!__syncthreads_or(waited != kArrived) || __syncthreads_or(waited == kFailed)) break;
    piece = findFreePiece(phase, block, MOE_A2A_DISPATCH, pieces);
    if (piece == pieces) patience = kForEver;
  }
  if (blockIdx.x == 0 && thread == kKeeper) {
    endTogether(phase, block, MOE_A2A_DISPATCH, waited == kArrived, badCount ? p.numTokens : tokens);
  }
  MOE_A2A_MARK(8);
  if (leaveTogether(phase, block, MOE_A2A_DISPATCH, waited != kArrived, true)) spoil(p, sh);
  MOE_A2A_MARK(9);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_dispatch_packets(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *dispatchInPacketsFunction() { return reinterpret_cast<const void *>(dispatchInPackets); }

}  // namespace moe_a2a
