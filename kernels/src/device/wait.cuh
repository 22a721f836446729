// Waiting for the flags of all active peers, never for longer than the time limit.
#pragma once

#include "begin.cuh"

namespace moe_a2a {

struct Waiting {
  const PhaseParams &p;
  const BlockState &block;
  int phase;
  uint64_t flags;  // byte offset in the window
  uint64_t start;
};

__device__ __forceinline__ bool isHere(const Waiting &w, int source) {
  const uint32_t flag = loadRelaxedSys(reinterpret_cast<const uint32_t *>(w.p.window + w.flags + source * kFlagStride));
  return !earlier(flag, w.block.round);
}

__device__ __forceinline__ uint64_t maskOf(bool low, bool high) {
  return __ballot_sync(0xffffffff, low) | static_cast<uint64_t>(__ballot_sync(0xffffffff, high)) << 32;
}

// Missing peers that have closed or were lost: lost ones alone where there are any. One warp.
__device__ inline uint64_t findGone(const Waiting &w, uint64_t missing, int *kind) {
  const int laneId = threadIdx.x & 31;
  uint32_t how[2];
  for (int i = 0; i < 2; i++) {
    const int source = laneId + 32 * i;
    how[i] = missing >> source & 1 ? loadRelaxedSys(controlWord(w.p, closedWord(source))) : 0;
  }
  const uint64_t lost = maskOf(how[0] == MOE_A2A_LOST, how[1] == MOE_A2A_LOST);
  const uint64_t gone = maskOf(how[0] != 0, how[1] != 0);
  *kind = lost ? MOE_A2A_LOST : MOE_A2A_CLOSED;
  return lost ? lost : gone;
}

// Waits until all active peers have come, or the phase has failed. One warp; true where all are here. `waitNs`, for the
// block that reports, takes how long each was waited for.
__device__ inline bool waitForPeers(const Waiting &w, uint64_t *waitNs) {
  const PhaseParams &p = w.p;
  const RankState *state = rankState(p);
  const int laneId = threadIdx.x & 31;
  const uint32_t number = phaseNumber(w.block.round, w.phase);
  uint64_t missing = w.block.active;
  uint32_t turns = 0;
  while (true) {
    bool waits[2];
    for (int i = 0; i < 2; i++) {
      const int source = laneId + 32 * i;
      waits[i] = missing >> source & 1;
      if (!waits[i] || !isHere(w, source)) continue;
      waits[i] = false;
      if (waitNs) waitNs[source] = globalNanoseconds() - w.start;
    }
    missing = maskOf(waits[0], waits[1]);
    // Orders what is read next after the flags and alarms just seen.
    fenceSys();
    if (missing == 0) return true;

    uint32_t word = 0;
    if (laneId == 0) word = loadRelaxedSys(controlWord(p, kAlarmWord));
    if (laneId == 1) word = loadRelaxedSys(&state->failed);
    if (laneId == 2) word = loadRelaxedSys(&state->stopped);
    if (laneId == 3) word = loadRelaxedSys(controlWord(p, kGenerationWord)) != static_cast<uint32_t>(w.block.generation);
    const unsigned raised = __ballot_sync(0xffffffff, word != 0);
    if (raised & 0xe) {
      if (laneId == 0) {
        markPhaseFailed(laneState(p));
        if (raised & 8) failLeftOut(p, w.block.round, w.phase);
      }
      return false;
    }
    uint64_t culprits = 0;
    int kind = MOE_A2A_TIMEOUT;
    if (raised & 1) {
      const int told = findVerdict(p, w.block.active, w.block.generation, number);
      if (told >= 0) {
        if (laneId == 0) failAsTold(p, told);
        return false;
      }
      culprits = findGone(w, missing, &kind);
    }
    const bool late = __shfl_sync(0xffffffff, globalNanoseconds() - w.start, 0) > p.timeoutNs;
    if (culprits == 0 && late) culprits = missing;
    if (culprits) {
      // A rank that left, or came at the last moment, stored its flag first: look once more before giving it up.
      fenceSys();
      const bool low = culprits >> laneId & 1 && !isHere(w, laneId);
      const bool high = culprits >> (laneId + 32) & 1 && !isHere(w, laneId + 32);
      culprits = maskOf(low, high);
    }
    if (culprits) {
      if (laneId == 0) {
        fail(p, w.block.round, w.phase, MOE_A2A_FAIL_MISSING, true, [&](Finding &f) {
          f.missingMask = culprits;
          f.kind = kind;
        });
      }
      return false;
    }
    if (++turns > 64) __nanosleep(20);
  }
}

}  // namespace moe_a2a
