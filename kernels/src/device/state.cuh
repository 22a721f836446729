// The state that a phase depends on. Each block looks at it while the kernels before may still be at work, so that it
// costs no time, and once more at its turn where that was too early.
#pragma once

#include "failure.cuh"

namespace moe_a2a {

// What every block of a phase knows, in shared memory.
struct BlockState {
  uint64_t windows[MOE_A2A_MAX_RANKS];
  uint64_t active;
  uint64_t tag;  // of this round's packets
  uint32_t round;
  int32_t generation;
  uint32_t ticket;
  int32_t numTokens;
  // This rank may not send: it has failed, was told so, was stopped, or was left out by a reset.
  int32_t blocked;
  int32_t left;  // enum Last
};

// Looks at most before the turn, while the phase before goes on: some 20 µs.
constexpr int kLooksAhead = 64;
// What was seen is not relied on for longer, in clocks: some 10 µs. Else a rank could go on to send long after it was
// left out.
constexpr long long kFresh = 20000;

// What each lane of the first warp reads: a pair of words.
enum StatePair {
  kPairRound,     // round, era
  kPairProgress,  // completed, tokens
  kPairRank,      // generation, failed
  kPairStop,      // stopped, -
  kPairActive,    // ranks, low and high
  kPairWindow,    // generation, alarm
  kPairBefore,    // of the phase before in packets: blocks, left
  kPairOwn,       // the same of this phase
};
static_assert(kAlarmWord == kGenerationWord + 4);

class State {
 public:
  // Looks ahead of the turn, until the phase before has succeeded or it is of no use. The first warp.
  __device__ __forceinline__ void lookAhead(const PhaseParams &p, int phase) {
    from_ = addressOf(p, phase);
    for (int looks = p.startNextEarly ? kLooksAhead : 1;; __nanosleep(64)) {
      read(phase, true);
      if (isFine_ || !mayBecomeFine_ || --looks == 0) break;
    }
    seenAt_ = clock64();
  }

  // Asks how many tokens a dispatch has, where they count. The first warp, at its turn.
  __device__ __forceinline__ void askForTokens(const int32_t *tokenCount, int32_t numTokens) {
    tokens_ = tokenCount ? static_cast<int32_t>(loadRelaxedSys(tokenCount)) : numTokens;
  }

  // Looks again where that was too early, or is too long ago. The first warp, at its turn.
  __device__ __forceinline__ void settle(int phase) {
    if (!__all_sync(0xffffffff, isFine_ && clock64() - seenAt_ < kFresh)) read(phase, false);
  }

  __device__ __forceinline__ bool isFine() const { return isFine_; }
  // Of a pair, by the whole warp.
  __device__ __forceinline__ uint32_t lowOf(int pair) const { return __shfl_sync(0xffffffff, low_, pair); }
  __device__ __forceinline__ uint32_t highOf(int pair) const { return __shfl_sync(0xffffffff, high_, pair); }

  // Each lane keeps what it has read.
  __device__ __forceinline__ void keep(BlockState &block, int phase) const {
    const uint32_t generation = lowOf(kPairRank);
    const int pair = threadIdx.x;
    if (pair == kPairRound) {
      block.round = low_;
      block.tag = tagOf(generation, high_, low_);
    }
    if (pair == kPairRank) block.generation = low_;
    if (pair == kPairActive) block.active = low_ | static_cast<uint64_t>(high_) << 32;
    if (pair == kPairProgress) block.numTokens = phase == MOE_A2A_DISPATCH ? tokens_ : high_ & ~kInPackets;
  }

 private:
  static __device__ __forceinline__ const void *addressOf(const PhaseParams &p, int phase) {
    const RankState *state = rankState(p);
    const LaneState *lane = laneState(p);
    const int pair = threadIdx.x & 31;
    return pair == kPairRound      ? static_cast<const void *>(&lane->round)
           : pair == kPairProgress ? &lane->completed
           : pair == kPairRank     ? &state->generation
           : pair == kPairStop     ? &state->stopped
           : pair == kPairWindow   ? controlWord(p, kGenerationWord)
           : pair == kPairBefore   ? &lane->together[1 - phase].blocks
           : pair == kPairOwn      ? static_cast<const void *>(&lane->together[phase].blocks)
                                   : &state->active;
  }

  // One load. Ahead of the turn the phase before may yet succeed; and one in packets has to have been left by all
  // blocks, of which any may fail although the first has moved the state on.
  __device__ __forceinline__ void read(int phase, bool ahead) {
    const uint64_t words = loadRelaxedSys64(from_);
    low_ = static_cast<uint32_t>(words);
    high_ = static_cast<uint32_t>(words >> 32);
    const int pair = threadIdx.x;
    const bool isNext = lowOf(kPairProgress) == phaseNumber(lowOf(kPairRound), phase) - 1;
    const bool inPackets = ahead && isNext && highOf(kPairProgress) & kInPackets;
    const uint32_t generation = lowOf(kPairRank);
    const bool isWell = pair == kPairRank                  ? high_ == 0
                        : pair == kPairStop                ? low_ != kStopAll
                        : pair == kPairWindow              ? low_ == generation && high_ == 0
                        : pair == kPairOwn && ahead        ? low_ == 0
                        : pair == kPairBefore && inPackets ? low_ != 0
                                                           : true;
    mayBecomeFine_ = __all_sync(0xffffffff, isWell);
    isFine_ = isNext && __all_sync(0xffffffff, isWell && (pair != kPairBefore || !inPackets || low_ == high_));
  }

  const void *from_;
  uint32_t low_, high_;
  int32_t tokens_;
  long long seenAt_;
  bool isFine_, mayBecomeFine_;
};

// Something is not as it is where all goes well: whether this rank may not send. The first warp, at its turn.
__device__ __noinline__ inline bool mayNotSend(const PhaseParams &p, int phase, const State &state, BlockState &block) {
  uint32_t round = state.lowOf(kPairRound), era = state.highOf(kPairRound);
  // The lane's phase before this one has failed, perhaps without any failure of the rank: it was stopped in between.
  bool broken = state.lowOf(kPairProgress) != phaseNumber(round, phase) - 1;
  // A block that begins late finds the state of the lane moved on by the first, and what it was.
  fenceGpu();
  __syncwarp();
  const Together &together = laneState(p)->together[phase];
  const uint32_t blocks = __shfl_sync(0xffffffff, loadRelaxedSys(&together.blocks), 0);
  if (broken && blocks) {
    round = __shfl_sync(0xffffffff, loadRelaxedSys(&together.round), 0);
    era = __shfl_sync(0xffffffff, loadRelaxedSys(&together.era), 0);
    broken = false;
  }
  const uint32_t number = phaseNumber(round, phase);
  const auto generation = static_cast<int32_t>(state.lowOf(kPairRank));
  const uint64_t active = state.lowOf(kPairActive) | static_cast<uint64_t>(state.highOf(kPairActive)) << 32;
  const bool leftOut = generation != static_cast<int32_t>(state.lowOf(kPairWindow));
  const bool stopped = state.highOf(kPairRank) || state.lowOf(kPairStop) == kStopAll;
  const int told = state.highOf(kPairWindow) && !leftOut ? findVerdict(p, active, generation, number) : -1;
  const bool may = !stopped && !leftOut && told < 0 && !broken;
  if (threadIdx.x == 0) {
    block.round = round;
    block.tag = tagOf(generation, era, round);
    if (!may) markPhaseFailed(laneState(p));
    if (leftOut) failLeftOut(p, round, phase);
    else if (told >= 0) failAsTold(p, told);
  }
  return !may;
}

}  // namespace moe_a2a
