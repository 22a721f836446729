// How a kernel fails its rank, and learns of the failures of others.
#pragma once

#include "../params.hpp"
#include "memory.cuh"

namespace moe_a2a {

__device__ __forceinline__ RankState *rankState(const PhaseParams &p) {
  return reinterpret_cast<RankState *>(p.own + p.state);
}
__device__ __forceinline__ LaneState *laneState(const PhaseParams &p) {
  return reinterpret_cast<LaneState *>(p.own + p.state + kLaneStates + p.lane * kLaneStateBytes);
}
__device__ __forceinline__ int32_t *controlWord(const PhaseParams &p, uint64_t word) {
  return reinterpret_cast<int32_t *>(p.window + p.control + word);
}

// Whether a numbered phase or flag comes before another; numbers wrap.
__device__ __forceinline__ bool earlier(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

// Takes the rank's first failure; true for the one thread that may describe it.
__device__ __forceinline__ bool claimFailure(const PhaseParams &p) {
  return atomicCAS(&rankState(p)->failed, 0, kFailureClaimed) == 0;
}

// The failure is described now: the host may read it.
__device__ __forceinline__ void tellHost(const PhaseParams &p) {
  storeReleaseSys(&rankState(p)->failed, kFailureDescribed);
  storeReleaseSys(&p.host->failed, 1);
}

// Writes a verdict into the windows of all active peers: all of it, then the word that vouches for it. One thread.
__device__ inline void tellPeers(const PhaseParams &p, const RankState *state, int place, const void *body,
                                 unsigned bytes) {
  const auto *words = static_cast<const uint32_t *>(body);
  uint32_t completed[MOE_A2A_MAX_LANES];
  for (int l = 0; l < MOE_A2A_MAX_LANES; l++) {
    const auto *lane = reinterpret_cast<const LaneState *>(p.own + p.state + kLaneStates + l * kLaneStateBytes);
    completed[l] = loadRelaxedSys(&lane->completed);
    // What the first block stored before that is seen now.
    fenceGpu();
    const Together &together = lane->together[completed[l] & 1];
    completed[l] = surelyCompleted(completed[l], loadRelaxedSys(&together.blocks), loadRelaxedSys(&together.left));
  }
  for (int peer = 0; peer < p.ranks; peer++) {
    if (peer == p.rank || !(state->active >> peer & 1)) continue;
    auto *base = reinterpret_cast<uint8_t *>(state->windows[peer]);
    auto *record = base + p.abortRecords + p.rank * kAbortRecordBytes + verdictOffset(place);
    auto *head = reinterpret_cast<VerdictHead *>(record);
    head->generation = state->generation;
    for (int l = 0; l < MOE_A2A_MAX_LANES; l++) head->completed[l] = completed[l];
    auto *target = reinterpret_cast<uint32_t *>(record + sizeof(VerdictHead));
    for (unsigned w = 0; w < bytes / 4; w++) target[w] = words[w];
    fenceSys();
    storeRelaxedSys(&head->set, 1);
    fenceSys();
    storeRelaxedSys(reinterpret_cast<uint32_t *>(base + p.control + kAlarmWord), 1);
  }
}

// This rank is the first to know of a failure, which `describe` fills in. One thread.
template <typename Describe>
__device__ inline void fail(const PhaseParams &p, uint32_t round, int phase, int code, bool peersAreTold,
                            Describe describe) {
  if (!claimFailure(p)) return;
  RankState *state = rankState(p);
  Finding &finding = state->finding;
  finding.code = code;
  finding.foundBy = p.rank;
  finding.phase = phase;
  finding.lane = p.lane;
  finding.round = round;
  finding.missingMask = 0;
  finding.valuesMask = 0;
  finding.valuesPerRank = 0;
  describe(finding);
  state->byAbort = 0;
  if (peersAreTold) tellPeers(p, state, kFound, &finding, sizeof(finding));
  tellHost(p);
}

// A peer has told a verdict, which is taken over and passed on: its finder may have ended while it told it. One thread;
// `told` is what findVerdict() found.
__device__ __noinline__ inline void failAsTold(const PhaseParams &p, int told) {
  if (!claimFailure(p)) return;
  RankState *state = rankState(p);
  fenceSys();
  const int peer = told / kVerdictPlaces, place = told % kVerdictPlaces;
  const uint8_t *record = p.window + p.abortRecords + peer * kAbortRecordBytes + verdictOffset(place);
  const auto *body = reinterpret_cast<const uint32_t *>(record + sizeof(VerdictHead));
  const unsigned bytes = place == kFound ? sizeof(Finding) : sizeof(AbortVerdict) - sizeof(VerdictHead);
  auto *own = place == kFound ? reinterpret_cast<uint32_t *>(&state->finding)
                              : reinterpret_cast<uint32_t *>(&state->abort) + sizeof(VerdictHead) / 4;
  for (unsigned w = 0; w < bytes / 4; w++) own[w] = loadRelaxedSys(body + w);
  state->byAbort = place != kFound;
  tellPeers(p, state, place == kFound ? kFound : kPassedOn, own, bytes);
  tellHost(p);
}

__device__ __noinline__ inline void failLeftOut(const PhaseParams &p, uint32_t round, int phase) {
  fail(p, round, phase, MOE_A2A_FAIL_LEFT_OUT, false, [](Finding &) {});
}

// The verdict of the lowest peer that holds for phase `number` of this lane, as peer * kVerdictPlaces + place, or -1.
// One warp, after the alarm was seen.
__device__ __noinline__ inline int findVerdict(const PhaseParams &p, uint64_t active, int32_t generation,
                                               uint32_t number) {
  const int laneId = threadIdx.x & 31;
  fenceSys();
  for (int first = 0; first < p.ranks; first += 32) {
    const int source = first + laneId;
    int place = -1;
    if (source < p.ranks && source != p.rank && (active >> source & 1)) {
      const uint8_t *record = p.window + p.abortRecords + source * kAbortRecordBytes;
      for (int candidate = 0; candidate < kVerdictPlaces && place < 0; candidate++) {
        const auto *head = reinterpret_cast<const VerdictHead *>(record + verdictOffset(candidate));
        if (loadRelaxedSys(&head->set) == 0) continue;
        fenceSys();
        const bool current = static_cast<int32_t>(loadRelaxedSys(&head->generation)) == generation;
        if (current && earlier(loadRelaxedSys(&head->completed[p.lane]), number)) place = candidate;
      }
    }
    const unsigned found = __ballot_sync(0xffffffff, place >= 0);
    if (found) {
      const int lane = __ffs(found) - 1;
      // Who reads the verdict is another lane than the one that saw it.
      __syncwarp();
      return (first + lane) * kVerdictPlaces + __shfl_sync(0xffffffff, place, lane);
    }
  }
  return -1;
}

}  // namespace moe_a2a
