// Dispatch: rows into the peers' windows, then headers and flags; then counts, statistics and padding of what arrived.
#include "device/agree.cuh"
#include "device/copy.cuh"
#include "device/wait.cuh"
#include "kernels.hpp"

namespace moe_a2a {
namespace {

struct DispatchShared {
  BlockState block;
  Tile tile;
  uint8_t *places[kThreads / 32][MOE_A2A_MAX_TOP_K];
  int32_t counts[MOE_A2A_MAX_RANKS];
  int32_t arrived;
};

__device__ __forceinline__ int bufferOf(uint32_t round) { return round & 1; }

__device__ __forceinline__ uint64_t headersAt(const PhaseParams &p, uint32_t round) {
  return p.at.dispatch_headers + static_cast<uint64_t>(bufferOf(round) * p.ranks) * kDispatchHeaderBytes;
}

__device__ __forceinline__ uint64_t statsAt(const DispatchParams &p, uint32_t round, int source) {
  return p.phase.at.expert_stats + (static_cast<uint64_t>(bufferOf(round)) * p.phase.ranks + source) * p.phase.statsRowBytes;
}

__device__ void sendStats(const DispatchParams &p, const BlockState &block) {
  const uint64_t offset = statsAt(p, block.round, p.phase.rank);
  for (int peer = 0; peer < p.phase.ranks; peer++) {
    if (!(block.active >> peer & 1)) continue;
    auto *target = reinterpret_cast<int32_t *>(block.windows[peer] + offset);
    for (int i = threadIdx.x; i < p.statsLength; i += blockDim.x) target[i] = p.stats[i];
  }
}

// Tells all active ranks, this one too, what this rank believes about the round, and that all its rows are there.
__device__ void publish(const DispatchParams &p, const BlockState &block) {
  const auto *sendCounts = reinterpret_cast<const int32_t *>(p.phase.own + p.phase.at.send_counts);
  const int thread = threadIdx.x;
  constexpr int kParts = sizeof(DispatchHeader) / 16;
  const int peer = thread / kParts, part = thread % kParts;
  if (peer < p.phase.ranks && (block.active >> peer & 1)) {
    const auto rowBytes = [&](int q) { return q < p.payloadCount ? p.payloads[q].rowBytes : 0; };
    Vector<4> words;
    if (part == 0) {
      words = {{static_cast<uint32_t>(block.generation), block.round, static_cast<uint32_t>(p.phase.maxTokens),
                static_cast<uint32_t>(p.payloadCount)}};
    } else if (part == 3) {
      words = {{static_cast<uint32_t>(p.statsLength), static_cast<uint32_t>(sendCounts[peer]), 0, 0}};
    } else {
      const int q = part == 1 ? 0 : 4;
      words = {{static_cast<uint32_t>(rowBytes(q)), static_cast<uint32_t>(rowBytes(q + 1)),
                static_cast<uint32_t>(rowBytes(q + 2)), static_cast<uint32_t>(rowBytes(q + 3))}};
    }
    auto *header = reinterpret_cast<uint8_t *>(block.windows[peer]) + headersAt(p.phase, block.round) +
                   p.phase.rank * kDispatchHeaderBytes;
    words.store(header + part * 16);
  }
  static_assert(MOE_A2A_MAX_RANKS * kParts <= kThreads, "one thread stores one part of a header");
  __syncthreads();
  delay(p.phase.delays.beforeFlag);
  if (thread < p.phase.ranks && (block.active >> thread & 1)) {
    fenceSys();
    storeRelaxedSys(reinterpret_cast<uint32_t *>(block.windows[thread] + p.phase.at.dispatch_flags +
                                                 p.phase.rank * kFlagStride),
                    block.round);
  }
  delay(p.phase.delays.afterFlag);
}

// Publishes unless this rank has failed meanwhile, or a device-side argument is wrong. Whole block.
__device__ void finishSending(const DispatchParams &p, BlockState &block, bool badCount) {
  LaneState *lane = laneState(p.phase);
  RankState *state = rankState(p.phase);
  if (threadIdx.x == 0) {
    const uint64_t bad = loadRelaxedGpu64(&lane->badEntry);
    bool failed = loadRelaxedSys(&lane->phaseFailed) || loadRelaxedSys(&state->failed) ||
                  loadRelaxedSys(&state->stopped) == kStopAll;
    if (failed) markPhaseFailed(lane);
    if (!failed && badCount) {
      fail(p.phase, block.round, MOE_A2A_DISPATCH, MOE_A2A_FAIL_CAPACITY, true, [&](Finding &f) {
        f.rank = p.phase.rank;
        f.value = block.numTokens;
        f.limit = p.numTokens;
      });
      failed = true;
    } else if (!failed && bad) {
      const uint64_t entry = ~bad;
      fail(p.phase, block.round, MOE_A2A_DISPATCH, MOE_A2A_FAIL_EXPERT_ID, true, [&](Finding &f) {
        f.rank = p.phase.rank;
        f.token = static_cast<int32_t>(entry / p.phase.topK);
        f.k = static_cast<int32_t>(entry % p.phase.topK);
        f.id = p.ids[entry];
      });
      failed = true;
    }
    block.flag = failed;
  }
  __syncthreads();
  const bool failed = block.flag;
  __syncthreads();
  if (!failed) publish(p, block);
}

// Waits for all peers, and compares what they said. Whole block; true where the dispatch has arrived.
__device__ bool awaitArrival(const DispatchParams &p, DispatchShared &sh, bool reports) {
  const PhaseParams &phase = p.phase;
  LaneState *lane = laneState(phase);
  if (threadIdx.x < 32) {
    uint64_t *waitNs = reports ? lane->reports[sh.block.round % kReports].waitNs : nullptr;
    const Waiting waiting{phase, sh.block, MOE_A2A_DISPATCH, phase.at.dispatch_flags, globalNanoseconds()};
    bool arrived = waitForPeers(waiting, waitNs) &&
                   ranksAgree(phase, sh.block, MOE_A2A_DISPATCH, kDispatchFields, headersAt(phase, sh.block.round),
                              kDispatchHeaderBytes);
    if (arrived && loadRelaxedSys(controlWord(phase, kAlarmWord))) {
      const int told = findVerdict(phase, sh.block.active, sh.block.generation,
                                   phaseNumber(sh.block.round, MOE_A2A_DISPATCH));
      if (told >= 0 && threadIdx.x == 0) failAsTold(phase, told);
      arrived = told < 0;
    }
    if (threadIdx.x == 0) sh.arrived = arrived;
  }
  __syncthreads();
  if (!sh.arrived) return false;
  delay(phase.delays.afterWait);
  for (int source = threadIdx.x; source < phase.ranks; source += blockDim.x) {
    const auto *header = reinterpret_cast<const DispatchHeader *>(phase.window + headersAt(phase, sh.block.round) +
                                                                  source * kDispatchHeaderBytes);
    const bool active = sh.block.active >> source & 1;
    const int32_t count = active ? static_cast<int32_t>(loadRelaxedSys(&header->count)) : 0;
    sh.counts[source] = min(max(count, 0), phase.maxTokens);
  }
  __syncthreads();
  return true;
}

// Fills slots at or past `counts` of one payload. Part `part` of `parts`.
__device__ void fillSlots(const DispatchParams &p, const int32_t *counts, int q, int part, int parts) {
  const PayloadParams &payload = p.payloads[q];
  const bool isIds = q == p.idPayload;
  const int unit = isIds ? 4 : 1;
  for (int source = 0; source < p.phase.ranks; source++) {
    const int64_t rows = p.phase.maxTokens - counts[source];
    const int64_t units = rows * payload.rowBytes / unit;
    uint8_t *first = p.phase.window + payload.target +
                     (static_cast<int64_t>(source) * p.phase.maxTokens + counts[source]) * payload.rowBytes;
    const int64_t from = units * part / parts, to = units * (part + 1) / parts;
    for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x) {
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

// Takes counts and statistics into private memory, where no peer writes, and reports. Whole block.
__device__ void takeCounts(const DispatchParams &p, const DispatchShared &sh) {
  const PhaseParams &phase = p.phase;
  auto *recvCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.recv_counts);
  Report &report = laneState(phase)->reports[sh.block.round % kReports];
  for (int source = threadIdx.x; source < phase.ranks; source += blockDim.x) {
    recvCounts[source] = sh.counts[source];
    if (!(sh.block.active >> source & 1)) report.waitNs[source] = 0;
  }
  auto *gathered = reinterpret_cast<int32_t *>(phase.own + phase.at.gathered_stats);
  for (int source = 0; source < phase.ranks && p.statsLength; source++) {
    const auto *theirs = reinterpret_cast<const int32_t *>(phase.window + statsAt(p, sh.block.round, source));
    const bool active = sh.block.active >> source & 1;
    for (int i = threadIdx.x; i < p.statsLength; i += blockDim.x) {
      gathered[static_cast<int64_t>(source) * p.statsLength + i] =
          active ? static_cast<int32_t>(loadRelaxedSys(theirs + i)) : 0;
    }
  }
  if (threadIdx.x == 0) {
    const LaneState *lane = laneState(phase);
    const auto *sendCounts = reinterpret_cast<const int32_t *>(phase.own + phase.at.send_counts);
    int sent = 0, received = 0;
    for (int r = 0; r < phase.ranks; r++) {
      sent += sendCounts[r];
      received += sh.counts[r];
    }
    report.round = sh.block.round;
    report.known = 1;
    report.numTokens = sh.block.numTokens;
    report.tokensSent = sent;
    report.tokensReceived = received;
    for (int i = 0; i < 3; i++) report.dropped[i] = loadRelaxedSys(&lane->dropped[i]);
  }
}

// Makes a failed dispatch look like an empty round. Whole block.
__device__ void spoil(const DispatchParams &p, DispatchShared &sh) {
  const PhaseParams &phase = p.phase;
  auto *recvCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.recv_counts);
  for (int r = threadIdx.x; r < phase.ranks; r += blockDim.x) {
    recvCounts[r] = 0;
    sh.counts[r] = 0;
  }
  auto *gathered = reinterpret_cast<int32_t *>(phase.own + phase.at.gathered_stats);
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(phase.ranks) * p.statsLength; i += blockDim.x) gathered[i] = 0;
  __syncthreads();
  fillPadding(p, sh.counts, 0, 1);
}

__global__ void __launch_bounds__(kThreads) dispatchKernel(const __grid_constant__ DispatchParams p) {
  __shared__ DispatchShared sh;
  BlockState &block = sh.block;
  beginPhase(p.phase, MOE_A2A_DISPATCH, p.tokenCount, p.numTokens, block);
  LaneState *lane = laneState(p.phase);

  const bool badCount = block.numTokens < 0 || block.numTokens > p.numTokens;
  const int64_t tokens = badCount ? 0 : block.numTokens;
  const uint32_t tiles = max(1, static_cast<int>((tokens + p.tokensPerTile - 1) / p.tokensPerTile));
  const uint32_t sends = tokens == 0 ? 1 : tiles * p.splits;
  const uint32_t all = sends + p.receivers - 1;
  const bool oneEach = all == sends && sends <= gridDim.x;

  uint32_t mine = 0;
  while (block.ticket < sends) {
    if (!block.blocked) {
      const int tile = tokens == 0 ? 0 : block.ticket / p.splits, part = tokens == 0 ? 0 : block.ticket % p.splits;
      const int64_t start = static_cast<int64_t>(tile) * p.tokensPerTile, end = min(start + p.tokensPerTile, tokens);
      if (block.ticket == 0 && p.statsLength) sendStats(p, block);
      if (routeTile(p, block, tile, part == 0, start, end, tokens, sh.tile)) {
        sendTile(p, block, sh.tile, start, end, part, sh.places);
      }
    }
    mine++;
    if (oneEach) break;
    takeTicket(lane, block);
  }
  bool waited = false, arrived = false;
  if (mine > 0 && countDone(lane, block, mine, sends)) {
    finishSending(p, block, badCount);
    waited = true;
    arrived = !block.flag && awaitArrival(p, sh, true);
    if (arrived) {
      takeCounts(p, sh);
      fillPadding(p, sh.counts, 0, p.receivers);
    }
  }
  while (block.ticket >= sends && block.ticket < all) {
    if (!waited) arrived = awaitArrival(p, sh, false);
    waited = true;
    if (arrived) fillPadding(p, sh.counts, block.ticket - sends + 1, p.receivers);
    takeTicket(lane, block);
  }
  if (!leavesLast(lane, block)) return;
  const bool succeeded = endPhase(p.phase, MOE_A2A_DISPATCH, block);
  if (threadIdx.x == 0) {
    lane->numTokens = badCount ? p.numTokens : static_cast<int32_t>(tokens);
    for (int i = 0; i < 3; i++) lane->dropped[i] = 0;
  }
  if (!succeeded) spoil(p, sh);
}

}  // namespace

const void *dispatchFunction() { return reinterpret_cast<const void *>(dispatchKernel); }

}  // namespace moe_a2a
