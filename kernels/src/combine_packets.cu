// Combine of a round with few tokens: each rank sends its results as packets to the ranks of their tokens, its own
// among them, which sum them as they come. See docs/protocol.md.
//
// A phase is a chain of latencies here: what the arguments alone decide is worked out before the kernels before are
// done.
#include "device/packets.cuh"
#include "device/pieces.cuh"
#include "device/results.cuh"
#include "device/vigil.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

struct CombineShared {
  BlockState block;
  WaitState wait;
  // Of one token: where each of its results comes to lie, in order of k.
  const uint8_t *packets[MOE_A2A_MAX_TOP_K];
  uint8_t ranks[MOE_A2A_MAX_TOP_K];
  int32_t count;
};

// Columns of 8 bytes, and results in each, that a thread has under way at once.
constexpr int kColumns = 2;
constexpr int kAhead = 4;

// Outgoing work: one part of the result for one received row. Slots that may stay empty come last.
struct Outgoing {
  int source, slot, first, to, received;
  const uint8_t *row;
  uint64_t packets;  // in the window of the row's rank
  uint64_t data[kHeldPackets];

  __device__ __forceinline__ Outgoing(const CombineParams &p, int item) {
    const PhaseParams &phase = p.phase;
    const int splits = p.packets.sendSplits, index = item / splits, part = item - index * splits;
    slot = index / phase.ranks;
    source = index - slot * phase.ranks;
    first = partStart(p.packets.sent, part) + static_cast<int>(threadIdx.x);
    to = partStart(p.packets.sent, part + 1);
    row = (p.expertOutput ? p.expertOutput : phase.window + phase.at.combine) +
          (static_cast<int64_t>(source) * phase.maxTokens + slot) * p.rowBytes;
    packets = packetsAt(phase, p.packets, phase.at.combine_packets, phase.rank, slot);
  }
  __device__ __forceinline__ bool has(int h) const { return first + h * kThreads < to; }
  __device__ __forceinline__ void load(const CombineParams &p) {
#pragma unroll
    for (int h = 0; h < kHeldPackets; h++) {
      const int at = (first + h * kThreads) * static_cast<int>(kPacketDataBytes);
      if (has(h)) data[h] = loadUpTo8(row + at, Width(p.rowBytes - at, p.copyVectorLog2));
    }
  }
  // How many rows came from there.
  __device__ __forceinline__ void count(const CombineParams &p) {
    const auto *counts = reinterpret_cast<const uint32_t *>(p.phase.own + p.phase.at.last_tokens);
    received = static_cast<int>(loadRelaxedGpu(counts + source));
  }
  __device__ __forceinline__ void send(const BlockState &block) const {
    uint8_t *target = reinterpret_cast<uint8_t *>(block.windows[source]) + packets + first * kPacketBytes;
#pragma unroll
    for (int h = 0; h < kHeldPackets; h++) {
      if (has(h)) storeRowPacket(target + h * kThreads * kPacketBytes, data[h], block.tag);
    }
  }
};

// Finds where one of the token's results comes to lie. Read after a barrier.
__device__ __forceinline__ void findPackets(const CombineParams &p, CombineShared &sh, const KeptEntry &entry) {
  if (entry.j == 0) sh.count = entry.count;
  if (entry.j >= entry.count) return;
  const PhaseParams &phase = p.phase;
  sh.ranks[entry.j] = entry.rank;
  sh.packets[entry.j] = phase.window + packetsAt(phase, p.packets, phase.at.combine_packets, entry.rank, entry.slot);
}

template <int DType>
constexpr int kElements = kPacketDataBytes / sizeof(typename Element<DType>::Bits);

template <int DType>
__device__ __forceinline__ float elementOf(uint64_t data, int i) {
  using Bits = typename Element<DType>::Bits;
  return Element<DType>::widen(static_cast<Bits>(data >> (8 * sizeof(Bits) * i)));
}

// Stores the sums of one packet's elements.
template <int DType>
__device__ __forceinline__ void storePacketSums(const CombineParams &p, uint8_t *row, int packet, const float *sum) {
  constexpr int kCount = kElements<DType>;
  const int there = min(kCount, p.hiddenSize - packet * kCount);
  asDType(p.outDtype, [&](auto out) {
    using Out = decltype(out);
    using Bits = typename Out::Bits;
    uint8_t *to = row + static_cast<int64_t>(packet) * kCount * sizeof(Bits);
    if (p.storesWhole && there == kCount) return storeSums<Out, kCount>(sum, to);
#pragma unroll
    for (int i = 0; i < kCount; i++) {
      if (i < there) reinterpret_cast<Bits *>(to)[i] = Out::round(sum[i]);
    }
  });
}

// Sums packets [first, to) of a token's results as they come. One warp.
template <int DType>
__device__ __forceinline__ Waited sumPart(const CombineParams &p, const CombineShared &sh,
                                          const Vigil<kCombinePackets> &vigil, uint8_t *output, int first, int to,
                                          int patience) {
  const int count = sh.count;
  const uint64_t tag = sh.block.tag;
  for (; first - static_cast<int>(threadIdx.x & 31) < to; first += kThreads * kColumns) {
    float sum[kColumns][kElements<DType>] = {};
    for (int from = 0; from < count; from += kAhead) {
      RowPacket held[kColumns][kAhead] = {};
      const auto isPending = [&](int c, int j) {
        return from + j < count && first + c * kThreads < to && held[c][j].tag != tag;
      };
      const Waited waited = vigil.await(patience, [&] {
#pragma unroll
        for (int j = 0; j < kAhead; j++) {
          if (from + j >= count) break;
          const uint8_t *packets = sh.packets[from + j] + first * kPacketBytes;
#pragma unroll
          for (int c = 0; c < kColumns; c++) {
            if (isPending(c, j)) held[c][j] = loadRowPacket(packets + c * kThreads * kPacketBytes);
          }
        }
        uint64_t missing = 0;
#pragma unroll
        for (int j = 0; j < kAhead; j++) {
          if (isPending(0, j) || isPending(1, j)) missing |= 1ull << sh.ranks[from + j];
        }
        return missing;
      });
      if (waited != kArrived) return waited;
#pragma unroll
      for (int j = 0; j < kAhead; j++) {
        if (from + j >= count) break;
#pragma unroll
        for (int c = 0; c < kColumns; c++) {
#pragma unroll
          for (int i = 0; i < kElements<DType>; i++) {
            sum[c][i] = __fadd_rn(sum[c][i], elementOf<DType>(held[c][j].data, i));
          }
        }
      }
    }
#pragma unroll
    for (int c = 0; c < kColumns; c++) {
      if (first + c * kThreads < to) storePacketSums<DType>(p, output, first + c * kThreads, sum[c]);
    }
  }
  return kArrived;
}

template <int DType>
__global__ void __launch_bounds__(kThreads, kPacketBlocksPerSm)
    combineInPackets(const __grid_constant__ CombineParams p) {
  __shared__ CombineShared sh;
  State state;
  BlockState &block = sh.block;
  const PhaseParams &phase = p.phase;
  const int thread = threadIdx.x, pieces = p.packets.pieces, splits = p.packets.receiveSplits;
  const int sends = phase.ranks * phase.maxTokens * p.packets.sendSplits;
  // The first piece is to tell the headers, where there is more than one.
  const int firstItem = pieces == 1 ? 0 : static_cast<int>(blockIdx.x) - 1;
  // Sums are shared out from the last block on, as the first has the headers to wait for.
  const int firstSum = gridDim.x - 1 - blockIdx.x;
  prepareMessage(p, sh.wait.said);
  warmUp(p);
  Outgoing outgoing(p, max(firstItem, 0));
  const bool looksAhead = firstItem >= 0 && static_cast<int>(blockIdx.x) < pieces && firstItem < sends;
  // The first warp has the state of the rank to ask for.
  const int entryThread = thread - 32;
  const bool findsEntry = entryThread >= 0 && entryThread < phase.maxTargets;
  const bool findsFirst = findsEntry && firstSum < p.rows * splits;
  const int firstToken = firstSum / splits;

  lookAhead(phase, MOE_A2A_COMBINE, state, block);
  awaitTurn(phase);
  // Asked for before anything is known of the round: a result, which may turn out not to be one, and entries.
  if (looksAhead) outgoing.load(p);
  outgoing.count(p);
  KeptEntry entry;
  if (findsFirst) {
    entry.load(p, firstToken, entryThread);
    findPackets(p, sh, entry);
  }
  beginPhase<false>(phase, MOE_A2A_COMBINE, state, block);
  MOE_A2A_MARK(2);
  const int tokens = min(max(block.numTokens, 0), p.rows);
  const Messages messages = messagesOf(p);
  const Vigil<kCombinePackets> vigil(phase, block, messages);
  Waited waited = kFailed;
  // Results that lie where peers may store the rows of their next round have to be gone before they hear of this one.
  // Then nothing is sent twice.
  int piece = blockIdx.x, patience = p.packets.headerLast ? kForEver : kPatience;
  bool isAhead = looksAhead, isFound = true;
  if (thread == kKeeper && blockIdx.x == 0 && !block.blocked) beginTogether(phase, block, MOE_A2A_COMBINE);
  while (!block.blocked) {
    if (piece < pieces) {
      if (thread == 0) takePiece(phase, block, MOE_A2A_COMBINE, piece);
      if (piece == 0 && thread >= kThreads - 32 && !p.packets.headerLast) publish(p, block);
      const int end = piece == 0 && pieces > 1 ? 0 : sends;
      for (int item = max(0, piece - 1); item < end; item += max(1, pieces - 1)) {
        if (!isAhead) {
          outgoing = Outgoing(p, item);
          outgoing.count(p);
        }
        const bool isRow = outgoing.slot < outgoing.received && (block.active >> outgoing.source & 1);
        while (isRow && outgoing.first - thread < outgoing.to) {
          if (!isAhead) outgoing.load(p);
          isAhead = false;
          outgoing.send(block);
          outgoing.first += kThreads * kHeldPackets;
        }
        isAhead = false;
      }
      isAhead = false;
      if (p.packets.headerLast && countSent(phase, MOE_A2A_COMBINE, 1, pieces, false)) publish(p, block);
    }
    MOE_A2A_MARK(3);
    waited = kArrived;
    if (blockIdx.x == 0 &&
        !(isFound && comesSoon<kCombinePackets, false>(phase, block, messages, -1, sh.wait, nullptr))) {
      waited = awaitResults(p, block, messages, sh.wait, patience);
    }
    MOE_A2A_MARK(4);
    for (int item = firstSum; item < tokens * splits; item += gridDim.x) {
      const int token = item / splits, part = item - token * splits;
      if (!isFound) {
        __syncthreads();
        if (findsEntry) {
          entry.load(p, token, entryThread);
          findPackets(p, sh, entry);
        }
        __syncthreads();
      }
      isFound = false;
      if (waited != kArrived) continue;
      waited = sumPart<DType>(p, sh, vigil, outputOf(p, token), partStart(p.packets.received, part) + thread,
                              partStart(p.packets.received, part + 1), patience);
    }
    isFound = false;
    MOE_A2A_MARK(5);
    if (!__syncthreads_or(waited != kArrived) || __syncthreads_or(waited == kFailed)) break;
    piece = findFreePiece(phase, block, MOE_A2A_COMBINE, pieces);
    if (piece == pieces) patience = kForEver;
  }
  if (blockIdx.x == 0 && thread == kKeeper) endCombine(p, block, waited == kArrived);
  // All that was read lies in this rank's own memory: a reset that left it out let nobody overwrite that.
  leaveCombine(p, block, blockIdx.x == 0, waited != kArrived, tokens > 0, tokens);
  MOE_A2A_MARK(6);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_combine_packets(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *combineInPacketsFunction(int dtype) {
  return kernelFor(dtype, [](auto element) { return combineInPackets<decltype(element)::kDType>; });
}

}  // namespace moe_a2a
