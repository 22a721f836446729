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
  int32_t isAhead;  // the state was seen ahead of the turn, and all was well
  // This rank may not send: it has failed, was told so, was stopped, or was left out by a reset.
  int32_t blocked;
  int32_t left;  // enum Last
};

// Looks at most before the turn, while the phase before goes on: some 20 µs.
constexpr int kLooksAhead = 64;
// What was seen is not relied on for longer, in clocks: some 10 µs. Else a rank could go on to send long after it was
// left out.
constexpr uint32_t kFresh = 20000;

__device__ __forceinline__ uint32_t lowOf(uint64_t pair) { return static_cast<uint32_t>(pair); }
__device__ __forceinline__ uint32_t highOf(uint64_t pair) { return static_cast<uint32_t>(pair >> 32); }

// Pairs of words of the state: all lanes of a warp load the first three, and each has one of the others.
struct StateWords {
  enum Other { kStop, kActive, kWindow, kBefore, kOwn };

  uint64_t round;     // and era
  uint64_t progress;  // completed, and tokens
  uint64_t rank;      // generation, and failed
  uint64_t other;

  __device__ __forceinline__ void load(const PhaseParams &p, int phase) {
    static_assert(kAlarmWord == kGenerationWord + 4);
    const RankState *state = rankState(p);
    const LaneState *lane = laneState(p);
    const int which = threadIdx.x & 31;
    other = loadRelaxedSys64(which == kStop     ? static_cast<const void *>(&state->stopped)
                             : which == kWindow ? controlWord(p, kGenerationWord)
                             : which == kBefore ? &lane->together[1 - phase].blocks
                             : which == kOwn    ? static_cast<const void *>(&lane->together[phase].blocks)
                                                : &state->active);
    round = loadRelaxedSys64(&lane->round);
    progress = loadRelaxedSys64(&lane->completed);
    rank = loadRelaxedSys64(&state->generation);
  }
  __device__ __forceinline__ uint64_t otherOf(Other which) const { return __shfl_sync(0xffffffff, other, which); }

  // The phase before has succeeded.
  __device__ __forceinline__ bool isNext(int phase) const {
    return lowOf(progress) == phaseNumber(lowOf(round), phase) - 1;
  }
  // Nothing keeps this rank from sending, as far as this lane knows. Ahead of its turn a phase in packets has to have
  // been left by all blocks: any of them may fail although the first has moved the state on.
  __device__ __forceinline__ bool isWell(int phase, bool ahead) const {
    const bool inPackets = ahead && isNext(phase) && highOf(progress) & kInPackets;
    const int which = threadIdx.x & 31;
    return highOf(rank) == 0 && (which == kStop     ? lowOf(other) != kStopAll
                                 : which == kWindow ? lowOf(other) == lowOf(rank) && highOf(other) == 0
                                 : which == kBefore ? !inPackets || lowOf(other) != 0
                                 : which == kOwn    ? !ahead || lowOf(other) == 0
                                                    : true);
  }
  __device__ __forceinline__ bool allHaveLeft() const {
    const bool inPackets = highOf(progress) & kInPackets;
    return (threadIdx.x & 31) != kBefore || !inPackets || lowOf(other) == highOf(other);
  }
};

class State {
 public:
  // Asks for it. The first warp, before all else.
  __device__ __forceinline__ void ask(const PhaseParams &p, int phase) {
    askedAt_ = static_cast<uint32_t>(clock64());
    words_.load(p, phase);
  }

  // Keeps what has come, if the phase before has succeeded; looks until it has, where that cannot take long. The first
  // warp, ahead of its turn.
  __device__ __forceinline__ void lookAhead(const PhaseParams &p, int phase, BlockState &block) {
    // Where blocks are many, looking would keep the phase before from its work.
    const bool looksOn = p.startNextEarly && gridDim.x * kBlocksPerSm <= static_cast<unsigned>(p.maxBlocks);
    for (int looks = looksOn ? kLooksAhead : 1;; __nanosleep(64), ask(p, phase)) {
      isFine_ = __all_sync(0xffffffff, words_.isNext(phase) && words_.isWell(phase, true) && words_.allHaveLeft());
      if (isFine_) break;
      if (--looks == 0 || !__all_sync(0xffffffff, words_.isWell(phase, true))) break;
    }
    if (isFine_) keep(block, phase);
    if (threadIdx.x == 0) block.isAhead = isFine_;
  }

  // Asks how many tokens a dispatch has, where they count. The first warp, at its turn.
  __device__ __forceinline__ void askForTokens(const int32_t *tokenCount, int32_t numTokens) {
    tokens_ = tokenCount ? static_cast<int32_t>(loadRelaxedSys(tokenCount)) : numTokens;
  }

  // Looks again where that was too early, or is too long ago. The first warp, at its turn; true where all is well.
  __device__ __forceinline__ bool settle(const PhaseParams &p, int phase, BlockState &block) {
    if (!__all_sync(0xffffffff, isFine_ && static_cast<uint32_t>(clock64()) - askedAt_ < kFresh)) {
      words_.load(p, phase);
      isFine_ = __all_sync(0xffffffff, words_.isNext(phase) && words_.isWell(phase, false));
      keep(block, phase);
    }
    if (phase == MOE_A2A_DISPATCH && threadIdx.x == 0) block.numTokens = tokens_;
    return isFine_;
  }

 private:
  __device__ __forceinline__ void keep(BlockState &block, int phase) const {
    if (threadIdx.x == 0) {
      block.round = lowOf(words_.round);
      block.generation = lowOf(words_.rank);
      block.tag = tagOf(block.generation, highOf(words_.round), block.round);
      if (phase == MOE_A2A_COMBINE) block.numTokens = highOf(words_.progress) & ~kInPackets;
    }
    if (threadIdx.x == StateWords::kActive) block.active = words_.other;
  }

  StateWords words_;
  uint32_t askedAt_;
  int32_t tokens_;
  bool isFine_;
};

// Something is not as it is where all goes well: whether this rank may not send. The first warp, at its turn.
__device__ __noinline__ inline bool mayNotSend(const PhaseParams &p, int phase, BlockState &block) {
  StateWords words;
  words.load(p, phase);
  // One lane's look decides, so that the warp stays together.
  for (uint64_t *pair : {&words.round, &words.progress, &words.rank}) *pair = __shfl_sync(0xffffffff, *pair, 0);
  uint32_t round = lowOf(words.round), era = highOf(words.round);
  // The lane's phase before this one has failed, perhaps without any failure of the rank: it was stopped in between.
  bool broken = !words.isNext(phase);
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
  const auto generation = static_cast<int32_t>(lowOf(words.rank));
  const uint64_t active = words.otherOf(StateWords::kActive), window = words.otherOf(StateWords::kWindow);
  const bool leftOut = generation != static_cast<int32_t>(lowOf(window));
  const bool stopped = highOf(words.rank) || lowOf(words.otherOf(StateWords::kStop)) == kStopAll;
  const int told = highOf(window) && !leftOut ? findVerdict(p, active, generation, number) : -1;
  const bool may = !stopped && !leftOut && told < 0 && !broken;
  if (threadIdx.x == 0) {
    block.round = round;
    block.generation = generation;
    block.active = active;
    block.tag = tagOf(generation, era, round);
    if (!may) markPhaseFailed(laneState(p));
    if (leftOut) failLeftOut(p, round, phase);
    else if (told >= 0) failAsTold(p, told);
  }
  return !may;
}

}  // namespace moe_a2a
