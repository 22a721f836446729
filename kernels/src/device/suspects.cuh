// Whom a phase blames when it cannot go on: told by a peer, gone, or late.
#pragma once

#include "begin.cuh"

namespace moe_a2a {

// The messages of one phase in this rank's window.
struct Messages {
  int phase;
  uint64_t headers;  // byte offset
  uint64_t stride;   // from one source to the next
  uint64_t start;    // of the waiting, in nanoseconds
};

__device__ __forceinline__ uint64_t maskOf(bool low, bool high) {
  return __ballot_sync(0xffffffff, low) | static_cast<uint64_t>(__ballot_sync(0xffffffff, high)) << 32;
}

// Missing peers that have closed or were lost: lost ones alone where there are any. One warp.
__device__ inline uint64_t findGone(const PhaseParams &p, uint64_t missing, int *kind) {
  const int laneId = threadIdx.x & 31;
  uint32_t how[2];
  for (int i = 0; i < 2; i++) {
    const int source = laneId + 32 * i;
    how[i] = missing >> source & 1 ? loadRelaxedSys(controlWord(p, closedWord(source))) : 0;
  }
  const uint64_t lost = maskOf(how[0] == MOE_A2A_LOST, how[1] == MOE_A2A_LOST);
  const uint64_t gone = maskOf(how[0] != 0, how[1] != 0);
  *kind = lost ? MOE_A2A_LOST : MOE_A2A_CLOSED;
  return lost ? lost : gone;
}

// Ranks that are missed because they have left, or are late.
struct Suspects {
  uint64_t ranks;
  int kind;  // enum moe_a2a_missing_kind
};

// Something happened, or the time is up, while ranks are missing (or none is any more): false where the phase has
// failed. Suspects are looked for once more before they are blamed. `sends`: for what this rank has yet to send, which
// it does also where it is told to wait for nobody. One warp.
__device__ __noinline__ inline bool investigate(const PhaseParams &p, const BlockState &block, const Messages &m,
                                                uint64_t missing, Suspects &suspects, bool sends = false) {
  const RankState *state = rankState(p);
  const int laneId = threadIdx.x & 31;
  suspects = {0, MOE_A2A_TIMEOUT};
  const auto failed = loadRelaxedSys(&state->failed), stop = loadRelaxedSys(&state->stopped);
  const bool stopped = sends ? stop == kStopAll : stop != kGoOn;
  // One lane's look decides, so that the warp stays together.
  const unsigned raised = __shfl_sync(0xffffffff, (failed || stopped ? 1 : 0) | (isLeftOut(p, block) ? 4 : 0), 0);
  if (raised & 4) {
    if (laneId == 0) failLeftOut(p, block.round, m.phase);
    return false;
  }
  // Who has left comes first, then once more what it may have told or sent before.
  if (missing) suspects.ranks = findGone(p, missing, &suspects.kind);
  const bool late = __shfl_sync(0xffffffff, globalNanoseconds() - m.start > p.timeoutNs, 0);
  const int told = findVerdict(p, block.active, block.generation, phaseNumber(block.round, m.phase));
  if (told >= 0) {
    if (laneId == 0) failAsTold(p, told);
    return false;
  }
  if (missing == 0) return true;
  if (raised) return false;
  if (suspects.ranks == 0 && late) suspects = {missing, MOE_A2A_TIMEOUT};
  return true;
}

// Fails the phase because of ranks that are missing. One warp.
__device__ __noinline__ inline void blame(const PhaseParams &p, const BlockState &block, const Messages &m,
                                          const Suspects &culprits) {
  if ((threadIdx.x & 31) != 0) return;
  fail(p, block.round, m.phase, MOE_A2A_FAIL_MISSING, true, [&](Finding &f) {
    f.missingMask = culprits.ranks;
    f.kind = culprits.kind;
  });
}

}  // namespace moe_a2a
