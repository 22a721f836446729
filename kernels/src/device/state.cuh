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
  uint32_t number;  // of this block among those that take part
  uint32_t ticket;
  int32_t numTokens;
  // This rank may not send: it has failed, was told so, was stopped, or was left out by a reset.
  int32_t blocked;
};

// Looks at most before the turn, while the phase before goes on: some 20 µs.
constexpr int kLooksAhead = 64;
// What was seen is not relied on for longer, in clocks: some 10 µs. Else a rank could go on to send long after it was
// left out.
constexpr long long kFresh = 20000;

__device__ __forceinline__ uint32_t lowOf(uint64_t pair) { return static_cast<uint32_t>(pair); }
__device__ __forceinline__ uint32_t highOf(uint64_t pair) { return static_cast<uint32_t>(pair >> 32); }

// The state that a phase depends on, as the first warp sees it in one load: a lane has a pair of words.
class State {
 public:
  // Looks at it ahead of the turn, until the phase before has succeeded. Code is kept short here and below: what a
  // block executes once is in no cache.
  __device__ __forceinline__ void lookAhead(const PhaseParams &p, int phase) {
    isFine_ = false;
    // Where blocks are many, looking would keep the phase before from its work, and late ones from theirs.
    if (gridDim.x * kBlocksPerSm > static_cast<unsigned>(p.maxBlocks)) return;
#pragma unroll 1
    for (int looks = p.startNextEarly ? kLooksAhead : 1; looks > 0; looks--) {
      pair_ = loadRelaxedSys64(addressOf(p));
      const bool isOver = succeeds(phase), inPackets = __any_sync(0xffffffff, isOver && highOf(pair_) & kEndedEarly);
      const int which = threadIdx.x, before = kTogether + 1 - phase, own = kTogether + phase;
      // A phase in packets has to have been left by all blocks: any of them may fail although the first has moved the
      // state on.
      const bool isLeft = !inPackets || (lowOf(pair_) == highOf(pair_) && pair_);
      // Under a stop phases fail without a failure of the rank; then the round of one that failed may still stand here.
      const bool isWell = isWellHere() && (which != kStop || lowOf(pair_) == kGoOn);
      isFine_ = __all_sync(0xffffffff, isWell && (which != kProgress || isOver) && (which != before || isLeft));
      // No use to look on: something is wrong, or the first block of this very phase has begun.
      const bool isLate = (which == before && inPackets && !pair_) || (which == own && pair_);
      if (isFine_ || __any_sync(0xffffffff, !isWell || isLate)) break;
      __nanosleep(100);
    }
    seenAt_ = clock64();
  }

  // Asks how many tokens a dispatch has, where they count. At the turn, before all else.
  __device__ __forceinline__ void askForTokens(const int32_t *tokenCount, int32_t numTokens) {
    tokens_ = tokenCount ? static_cast<int32_t>(loadRelaxedSys(tokenCount)) : numTokens;
  }

  // Looks again where that was too early, or is too long ago, and keeps what has been seen; true where all is well. At
  // the turn.
  __device__ __forceinline__ bool settle(const PhaseParams &p, int phase, BlockState &block) {
    if (!__all_sync(0xffffffff, isFine_ && clock64() - seenAt_ < kFresh)) {
      pair_ = loadRelaxedSys64(addressOf(p));
      const bool isOver = succeeds(phase);
      isFine_ = __all_sync(0xffffffff, isWellHere() && (threadIdx.x != kProgress || isOver));
    }
    const int which = threadIdx.x;
    const uint32_t generation = __shfl_sync(0xffffffff, lowOf(pair_), kRank);
    if (which == kRound) {
      block.round = lowOf(pair_);
      block.generation = generation;
      block.tag = tagOf(generation, highOf(pair_), lowOf(pair_));
    }
    if (which == kActive) block.active = pair_;
    if (which == kProgress) block.numTokens = phase == MOE_A2A_DISPATCH ? tokens_ : highOf(pair_) & ~kEndedEarly;
    return isFine_;
  }

 private:
  // Lanes by what they have: of the round lane, of the rank, of its window.
  enum Pair { kRound, kProgress, kTogether, kRank = 4, kStop, kActive, kWindow };

  static __device__ __forceinline__ const uint8_t *addressOf(const PhaseParams &p) {
    static_assert(kAlarmWord == kGenerationWord + 4);
    const int which = min(static_cast<int>(threadIdx.x), static_cast<int>(kWindow));
    const uint8_t *from = p.own + p.state + (which < kRank ? kLaneStates + p.lane * kLaneStateBytes : 0);
    return which == kWindow ? p.window + p.control + kGenerationWord : from + (which & 3) * 8;
  }
  __device__ __forceinline__ uint64_t of(int which) const { return __shfl_sync(0xffffffff, pair_, which); }

  // The phase before has succeeded, and the round is that of this one, as the lane with the progress sees it.
  __device__ __forceinline__ bool succeeds(int phase) const {
    const uint32_t round = __shfl_sync(0xffffffff, lowOf(pair_), kRound);
    return threadIdx.x == kProgress && lowOf(pair_) == phaseNumber(round, phase) - 1;
  }
  // Nothing keeps this rank from sending, as far as this lane knows.
  __device__ __forceinline__ bool isWellHere() const {
    const int which = threadIdx.x;
    const uint32_t generation = __shfl_sync(0xffffffff, lowOf(pair_), kRank);
    return which == kRank     ? highOf(pair_) == 0
           : which == kStop   ? lowOf(pair_) != kStopAll
           : which == kWindow ? pair_ == generation
                              : true;
  }

  friend __device__ bool mayNotSend(const PhaseParams &p, int phase, State state, BlockState &block);

  uint64_t pair_;
  long long seenAt_;
  int32_t tokens_;
  bool isFine_;
};

// Something is not as it is where all goes well: whether this rank may not send. The first warp, at its turn.
__device__ __noinline__ inline bool mayNotSend(const PhaseParams &p, int phase, State state, BlockState &block) {
  uint64_t tag = tagOf(lowOf(state.of(State::kRank)), highOf(state.of(State::kRound)), lowOf(state.of(State::kRound)));
  // The lane's phase before this one has failed, perhaps without any failure of the rank: it was stopped in between.
  bool broken = !__any_sync(0xffffffff, state.succeeds(phase));
  // A block that begins late finds the state of the lane moved on by the first, and what it was.
  fenceGpu();
  __syncwarp();
  LaneState *lane = laneState(p);
  const uint32_t blocks = __shfl_sync(0xffffffff, loadRelaxedSys(&lane->together[phase].blocks), 0);
  if (broken && blocks) {
    tag = __shfl_sync(0xffffffff, loadRelaxedSys64(&lane->tags[phase]), 0);
    broken = false;
  }
  const uint32_t round = static_cast<uint32_t>(tag), number = phaseNumber(round, phase);
  const auto generation = static_cast<int32_t>(lowOf(state.of(State::kRank)));
  const uint64_t window = state.of(State::kWindow);
  const bool leftOut = generation != static_cast<int32_t>(lowOf(window));
  const bool stopped = highOf(state.of(State::kRank)) || lowOf(state.of(State::kStop)) == kStopAll;
  const int told = highOf(window) && !leftOut ? findVerdict(p, state.of(State::kActive), generation, number) : -1;
  const bool may = !stopped && !leftOut && told < 0 && !broken;
  if (threadIdx.x == 0) {
    block.round = round;
    block.tag = tag;
    if (leftOut) failLeftOut(p, round, phase);
    else if (told >= 0) failAsTold(p, told);
  }
  return !may;
}

}  // namespace moe_a2a
