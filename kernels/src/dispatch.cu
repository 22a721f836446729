// Dispatch: rows into the peers' windows, then headers and flags; then counts, statistics and padding of what arrived.
#include "device/copy.cuh"
#include "device/wait.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

struct DispatchShared {
  BlockState block;
  WaitState wait;
  Tile tile;
  uint8_t *places[kThreads / 32][MOE_A2A_MAX_TOP_K];
  int32_t sendCounts[MOE_A2A_MAX_RANKS];
  int32_t dropped[3];
};

__device__ __forceinline__ int bufferOf(uint32_t round) { return round & 1; }

__device__ __forceinline__ uint64_t headersAt(const PhaseParams &p, uint32_t round) {
  return p.at.dispatch_headers + static_cast<uint64_t>(bufferOf(round) * p.ranks) * kDispatchHeaderBytes;
}

__device__ __forceinline__ uint64_t statsAt(const DispatchParams &p, uint32_t round, int source) {
  return p.phase.at.expert_stats +
         (static_cast<uint64_t>(bufferOf(round)) * p.phase.ranks + source) * p.phase.statsRowBytes;
}

__device__ void sendStats(const DispatchParams &p, const BlockState &block) {
  const uint64_t offset = statsAt(p, block.round, p.phase.rank);
  for (int peer = 0; peer < p.phase.ranks; peer++) {
    if (!(block.active >> peer & 1)) continue;
    auto *target = reinterpret_cast<int32_t *>(block.windows[peer] + offset);
    for (int i = threadIdx.x; i < p.statsLength; i += blockDim.x) target[i] = p.stats[i];
  }
}

// What this rank says about the round to all, its generation and row counts aside.
__device__ void prepareMessage(const DispatchParams &p, uint32_t *said) {
  const int w = threadIdx.x;
  if (w >= kDispatchPackets * 3) return;
  const int q = w - kWordRowBytes;
  said[w] = w == kWordMaxTokens            ? p.phase.maxTokens
            : w == kWordPayloadCount       ? p.payloadCount
            : w == kWordStatsLength        ? p.statsLength
            : q >= 0 && q < p.payloadCount ? p.payloads[q].rowBytes
                                           : 0;
}

// Tells all active ranks, this one too, what this rank believes about the round, and that all its rows are there.
// `hasStored`: there are stores that the message vouches for. That this rank's earlier reads are over needs no fence:
// the kernels that made them are complete.
__device__ void publish(const DispatchParams &p, const DispatchShared &sh, bool hasStored) {
  const BlockState &block = sh.block;
  delay(p.phase.delays.beforeFlag);
  for (int item = threadIdx.x; item < p.phase.ranks * kDispatchPackets; item += blockDim.x) {
    const int peer = item / kDispatchPackets, packet = item % kDispatchPackets;
    if (!(block.active >> peer & 1)) continue;
    Packet message{block.round, {0, 0, 0}};
#pragma unroll
    for (int i = 0; i < 3; i++) {
      const int w = packet * 3 + i;
      message.words[i] = w == kWordCount        ? sh.sendCounts[peer]
                         : w == kWordGeneration ? block.generation
                                                : sh.wait.said[w];
    }
    if (hasStored) fenceSys();
    storePacket(reinterpret_cast<uint8_t *>(block.windows[peer]) + headersAt(p.phase, block.round) +
                    p.phase.rank * kDispatchHeaderBytes + packet * sizeof(Packet),
                message);
  }
  delay(p.phase.delays.afterFlag);
}

// Publishes unless a device-side argument is wrong. Whole block; true where it did.
__device__ bool finishSending(const DispatchParams &p, DispatchShared &sh, bool badCount, bool hasTokens) {
  const BlockState &block = sh.block;
  LaneState *lane = laneState(p.phase);
  const int thread = threadIdx.x;
  const auto *sendCounts = reinterpret_cast<const int32_t *>(p.phase.own + p.phase.at.send_counts);
  uint64_t bad = 0;
  if (thread == 0 && hasTokens) bad = loadRelaxedGpu64(&lane->badEntry);
  if (thread >= 32 && thread - 32 < p.phase.ranks) {
    sh.sendCounts[thread - 32] = hasTokens ? loadRelaxedSys(sendCounts + thread - 32) : 0;
  }
  if (thread >= kThreads - 3) {
    const int i = thread - (kThreads - 3);
    sh.dropped[i] = hasTokens ? loadRelaxedSys(&lane->dropped[i]) : 0;
  }
  if (thread == 0 && badCount) {
    fail(p.phase, block.round, MOE_A2A_DISPATCH, MOE_A2A_FAIL_CAPACITY, true, [&](Finding &f) {
      f.rank = p.phase.rank;
      f.value = block.numTokens;
      f.limit = p.numTokens;
    });
  } else if (thread == 0 && bad) {
    const uint64_t entry = ~bad;
    fail(p.phase, block.round, MOE_A2A_DISPATCH, MOE_A2A_FAIL_EXPERT_ID, true, [&](Finding &f) {
      f.rank = p.phase.rank;
      f.token = static_cast<int32_t>(entry / p.phase.topK);
      f.k = static_cast<int32_t>(entry % p.phase.topK);
      f.id = p.ids[entry];
    });
  }
  if (__syncthreads_or(badCount || bad)) return false;
  MOE_A2A_MARK(6);
  publish(p, sh, hasTokens || p.statsLength > 0);
  MOE_A2A_MARK(7);
  return true;
}

// Waits for all peers, and compares what they said. Whole block; true where the dispatch has arrived.
__device__ bool awaitArrival(const DispatchParams &p, DispatchShared &sh, bool reports) {
  const uint64_t headers = headersAt(p.phase, sh.block.round);
  const Messages messages{MOE_A2A_DISPATCH, headers, kDispatchHeaderBytes, globalNanoseconds()};
  uint64_t *waitNs = reports ? laneState(p.phase)->reports[sh.block.round % kReports].waitNs : nullptr;
  const bool arrived =
      awaitMessages<kDispatchPackets>(p.phase, sh.block, messages, kDispatchFields, kWordCount, sh.wait, waitNs);
  delay(p.phase.delays.afterWait);
  return arrived;
}

// Fills slots at or past `counts` of one payload. Part `part` of `parts`.
__device__ void fillSlots(const DispatchParams &p, const int32_t *counts, int q, int part, int parts) {
  const PayloadParams &payload = p.payloads[q];
  const bool isIds = q == p.idPayload;
  const int64_t step = static_cast<int64_t>(parts) * kThreads;
  for (int source = 0; source < p.phase.ranks; source++) {
    const int64_t bytes = static_cast<int64_t>(p.phase.maxTokens - counts[source]) * payload.rowBytes;
    const int64_t units = isIds ? bytes >> 2 : bytes;
    uint8_t *first = p.phase.window + payload.target +
                     (static_cast<int64_t>(source) * p.phase.maxTokens + counts[source]) * payload.rowBytes;
    for (int64_t i = part * kThreads + static_cast<int>(threadIdx.x); i < units; i += step) {
      if (isIds) reinterpret_cast<int32_t *>(first)[i] = p.invalidId;
      else first[i] = 0xff;
    }
  }
}

__device__ void fillPadding(const DispatchParams &p, const int32_t *counts, int part, int parts) {
  for (int q = 0; q < p.payloadCount; q++) {
    if (q == p.idPayload || p.fillPadding) fillSlots(p, counts, q, part, parts);
  }
}

// Takes counts and statistics into private memory, where no peer writes, and reports. The caller may write to the
// counts that it is shown, so the combine has its own. Whole block.
__device__ void takeCounts(const DispatchParams &p, const DispatchShared &sh) {
  const PhaseParams &phase = p.phase;
  Report &report = laneState(phase)->reports[sh.block.round % kReports];
  auto *recvCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.recv_counts);
  auto *keptCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.last_tokens);
  const int thread = threadIdx.x;
  if (thread < phase.ranks) {
    recvCounts[thread] = sh.wait.counts[thread];
    keptCounts[thread] = sh.wait.counts[thread];
    if (!(sh.block.active >> thread & 1)) report.waitNs[thread] = 0;
  }
  auto *gathered = reinterpret_cast<int32_t *>(phase.own + phase.at.gathered_stats);
  for (int source = 0; source < phase.ranks && p.statsLength; source++) {
    const auto *theirs = reinterpret_cast<const int32_t *>(phase.window + statsAt(p, sh.block.round, source));
    const bool active = sh.block.active >> source & 1;
    for (int i = thread; i < p.statsLength; i += blockDim.x) {
      gathered[static_cast<int64_t>(source) * p.statsLength + i] =
          active ? static_cast<int32_t>(loadRelaxedSys(theirs + i)) : 0;
    }
  }
  if (thread < 32) {
    const bool high = thread + 32 < phase.ranks, low = thread < phase.ranks;
    const int sent =
        __reduce_add_sync(0xffffffff, (low ? sh.sendCounts[thread] : 0) + (high ? sh.sendCounts[thread + 32] : 0));
    const int received =
        __reduce_add_sync(0xffffffff, (low ? sh.wait.counts[thread] : 0) + (high ? sh.wait.counts[thread + 32] : 0));
    if (thread == 0) {
      report.round = sh.block.round;
      report.known = 1;
      report.numTokens = sh.block.numTokens;
      report.tokensSent = sent;
      report.tokensReceived = received;
    }
    if (thread < 3) report.dropped[thread] = sh.dropped[thread];
  }
}

// Makes a failed dispatch look like an empty round. Whole block.
__device__ void spoil(const DispatchParams &p, DispatchShared &sh) {
  const PhaseParams &phase = p.phase;
  auto *recvCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.recv_counts);
  auto *keptCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.last_tokens);
  __syncthreads();
  for (int r = threadIdx.x; r < phase.ranks; r += blockDim.x) {
    recvCounts[r] = 0;
    keptCounts[r] = 0;
    sh.wait.counts[r] = 0;
  }
  auto *gathered = reinterpret_cast<int32_t *>(phase.own + phase.at.gathered_stats);
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(phase.ranks) * p.statsLength; i += blockDim.x) gathered[i] = 0;
  __syncthreads();
  fillPadding(p, sh.wait.counts, 0, 1);
}

__global__ void __launch_bounds__(kThreads) dispatchKernel(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  BlockState &block = sh.block;
  prepareMessage(p, sh.wait.said);
  beginPhase(p.phase, MOE_A2A_DISPATCH, p.tokenCount, p.numTokens, nullptr, block);
  MOE_A2A_MARK(2);
  LaneState *lane = laneState(p.phase);

  const bool badCount = block.numTokens < 0 || block.numTokens > p.numTokens;
  const int tokens = badCount ? 0 : block.numTokens;
  const uint32_t tiles = (tokens + p.tokensPerTile - 1) / p.tokensPerTile;
  const uint32_t sends = tokens == 0 ? 1 : tiles * p.splits;
  const uint32_t all = sends + p.receivers - 1;
  // Every block has exactly one piece to send: whoever completes them all is the last at work.
  const bool oneEach = all == sends && sends == gridDim.x && sends <= static_cast<uint32_t>(p.phase.maxBlocks);

  uint32_t mine = 0;
  bool failed = block.blocked;
  while (block.ticket < sends) {
    if (block.ticket == 0 && p.statsLength && !failed) sendStats(p, block);
    if (tokens > 0 && !failed) {
      const int tile = block.ticket / p.splits, part = block.ticket - tile * p.splits;
      const int64_t start = static_cast<int64_t>(tile) * p.tokensPerTile;
      const int count = min(p.tokensPerTile, static_cast<int>(tokens - start));
      failed = !routeTile(p, block, tile, part == 0, start, count, tokens, sh.tile);
      MOE_A2A_MARK(3);
      if (!failed) sendTile(p, block, sh.tile, start, count, part, sh.places);
    }
    mine++;
    if (oneEach) break;
    takeTicket(lane, block);
  }
  bool waited = false, arrived = false, isLast = false;
  if (mine > 0) {
    MOE_A2A_MARK(4);
    const Last sent = countToLast<true>(&lane->done, mine, sends, failed);
    MOE_A2A_MARK(5);
    if (sent != kNotLast) {
      waited = isLast = true;
      arrived = sent == kLast && finishSending(p, sh, badCount, tokens > 0) && awaitArrival(p, sh, true);
      MOE_A2A_MARK(8);
      if (arrived) {
        takeCounts(p, sh);
        MOE_A2A_MARK(9);
        fillPadding(p, sh.wait.counts, 0, p.receivers);
      }
    }
  }
  while (block.ticket >= sends && block.ticket < all) {
    if (!waited) arrived = !block.blocked && awaitArrival(p, sh, false);
    waited = true;
    if (arrived) fillPadding(p, sh.wait.counts, block.ticket - sends + 1, p.receivers);
    takeTicket(lane, block);
  }
  Last left = !isLast ? kNotLast : arrived ? kLast : kLastAfterFailure;
  if (!oneEach) left = countToLast<false>(&lane->exits, 1, gridDim.x, waited && !arrived);
  if (left == kNotLast) return;
  if (threadIdx.x == 0) {
    endPhase(p.phase, MOE_A2A_DISPATCH, block, left == kLast);
    for (int i = 0; i < 3 && tokens > 0; i++) lane->dropped[i] = 0;
    lane->numTokens = badCount ? p.numTokens : tokens;
  }
  if (left != kLast) spoil(p, sh);
  MOE_A2A_MARK(10);
}

}  // namespace

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_dispatch(long long *clocks) {
  return cudaMemcpyFromSymbol(clocks, traceClocks, sizeof(traceClocks));
}
#endif

const void *dispatchFunction() { return reinterpret_cast<const void *>(dispatchKernel); }

}  // namespace moe_a2a
