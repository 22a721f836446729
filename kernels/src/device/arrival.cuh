// The receiving half of a dispatch: waits for the peers, and takes what they sent into private memory.
#pragma once

#include "route.cuh"
#include "wait.cuh"

namespace moe_a2a {

struct DispatchShared {
  BlockState block;
  WaitState wait;
  Tile tile;
  Totals totals;
  int32_t seen[MOE_A2A_MAX_RANKS];  // pieces of each rank that have come, by their flags
};

// What starts from 0. Whole block, ahead of a barrier.
__device__ __forceinline__ void clear(const DispatchParams &p, DispatchShared &sh) {
  const int thread = threadIdx.x;
  if (thread >= p.phase.ranks) return;
  clearCounts(sh.wait);
  sh.seen[thread] = 0;
}

__device__ __forceinline__ int bufferOf(uint32_t round) { return round & 1; }

__device__ __forceinline__ uint64_t headersAt(const PhaseParams &p, uint32_t round) {
  return p.at.dispatch_headers + static_cast<uint64_t>(bufferOf(round) * p.ranks) * kDispatchHeaderBytes;
}

__device__ __forceinline__ uint64_t statsAt(const DispatchParams &p, uint32_t round, int source) {
  return p.phase.at.expert_stats +
         (static_cast<uint64_t>(bufferOf(round)) * p.phase.ranks + source) * p.phase.statsRowBytes;
}

// Where it is kept how long each rank was waited for.
__device__ __forceinline__ uint64_t *waitsOf(const DispatchParams &p, const BlockState &block) {
  return laneState(p.phase)->reports[block.round % kReports].waitNs;
}

// The headers of a round, which are waited for from now on.
__device__ __forceinline__ Messages messagesOf(const DispatchParams &p, const BlockState &block) {
  return {MOE_A2A_DISPATCH, headersAt(p.phase, block.round), kDispatchHeaderBytes, globalNanoseconds()};
}

// Waits for all peers, and compares what they said. Whole block.
__device__ inline Waited awaitArrival(const DispatchParams &p, DispatchShared &sh, const Messages &messages,
                                      bool reports, uint32_t patience = kForEver) {
  uint64_t *waitNs = reports ? waitsOf(p, sh.block) : nullptr;
  const Waited waited = awaitMessages<kDispatchPackets>(p.phase, sh.block, messages, kDispatchFields, kWordCount,
                                                        sh.wait, waitNs, patience);
  delay(p.phase.delays.afterWait);
  return waited;
}

// Fills slots at or past `counts` of one payload. Part `part` of `parts`.
__device__ inline void fillSlots(const DispatchParams &p, const int32_t *counts, int q, int part, int parts) {
  const PayloadParams &payload = p.payloads[q];
  const bool isIds = q == p.idPayload;
  const uint32_t word = isIds ? static_cast<uint32_t>(p.invalidId) : 0xffffffff;
  // Bytes at once; buffers are aligned to more, and ids take whole words.
  const int unitLog2 = payload.rowBytes % 16 == 0 ? 4 : isIds ? 2 : 0;
  const int64_t step = static_cast<int64_t>(parts) * kThreads;
#pragma unroll 1
  for (int source = 0; source < p.phase.ranks; source++) {
    const int64_t units = static_cast<int64_t>(p.phase.maxTokens - counts[source]) * payload.rowBytes >> unitLog2;
    uint8_t *first = p.phase.window + payload.target +
                     (static_cast<int64_t>(source) * p.phase.maxTokens + counts[source]) * payload.rowBytes;
#pragma unroll 1
    for (int64_t i = part * kThreads + static_cast<int>(threadIdx.x); i < units; i += step) {
      if (unitLog2 == 4) Vector<4>{{word, word, word, word}}.store(first + (i << 4));
      else if (unitLog2 == 2) reinterpret_cast<uint32_t *>(first)[i] = word;
      else first[i] = 0xff;
    }
  }
}

__device__ inline void fillPadding(const DispatchParams &p, const int32_t *counts, int part, int parts) {
#pragma unroll 1
  for (int q = 0; q < p.payloadCount; q++) {
    if (q == p.idPayload || p.fillPadding) fillSlots(p, counts, q, part, parts);
  }
}

// Takes counts and statistics into private memory, where no peer writes, and reports. The caller may write to the
// counts that it is shown, so the combine has its own. Whole block.
__device__ inline void takeCounts(const DispatchParams &p, const DispatchShared &sh) {
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
#pragma unroll 1
  for (int source = 0; source < phase.ranks && p.statsLength; source++) {
    const auto *theirs = reinterpret_cast<const int32_t *>(phase.window + statsAt(p, sh.block.round, source));
    const bool active = sh.block.active >> source & 1;
#pragma unroll 1
    for (int i = thread; i < p.statsLength; i += blockDim.x) {
      gathered[static_cast<int64_t>(source) * p.statsLength + i] =
          active ? static_cast<int32_t>(loadRelaxedSys(theirs + i)) : 0;
    }
  }
  if (thread < 32) {
    const bool high = thread + 32 < phase.ranks, low = thread < phase.ranks;
    const int sent =
        __reduce_add_sync(0xffffffff, (low ? sh.totals.sent[thread] : 0) + (high ? sh.totals.sent[thread + 32] : 0));
    const int received =
        __reduce_add_sync(0xffffffff, (low ? sh.wait.counts[thread] : 0) + (high ? sh.wait.counts[thread + 32] : 0));
    if (thread == 0) {
      report.round = sh.block.round;
      report.known = 1;
      report.numTokens = sh.block.numTokens;
      report.tokensSent = sent;
      report.tokensReceived = received;
    }
    if (thread < 3) report.dropped[thread] = sh.totals.dropped[thread];
  }
}

// Makes a failed dispatch look like an empty round. Whole block.
__device__ __noinline__ inline void spoil(const DispatchParams &p, DispatchShared &sh) {
  const PhaseParams &phase = p.phase;
  auto *recvCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.recv_counts);
  auto *keptCounts = reinterpret_cast<int32_t *>(phase.own + phase.at.last_tokens);
  __syncthreads();
#pragma unroll 1
  for (int r = threadIdx.x; r < phase.ranks; r += blockDim.x) {
    recvCounts[r] = 0;
    keptCounts[r] = 0;
    sh.wait.counts[r] = 0;
  }
  auto *gathered = reinterpret_cast<int32_t *>(phase.own + phase.at.gathered_stats);
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(phase.ranks) * p.statsLength; i += blockDim.x) gathered[i] = 0;
  __syncthreads();
  fillPadding(p, sh.wait.counts, 0, 1);
}

}  // namespace moe_a2a
