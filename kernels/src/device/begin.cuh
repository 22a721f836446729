// How a block begins and ends a phase: what it reads first, how it takes work, and who is last.
#pragma once

#include "failure.cuh"
#include "trace.cuh"

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

constexpr uint32_t kNoTicket = 0xffffffff;

// Blocks that take part in a phase; a grid that was forced to be larger has others, which leave at once.
__device__ __forceinline__ uint32_t blocksAtWork(const PhaseParams &p) {
  return min(gridDim.x, static_cast<uint32_t>(p.maxBlocks));
}

// Takes the next piece of work; pieces are numbered, so whoever holds one knows that all before it are in running
// blocks.
__device__ __forceinline__ void takeTicket(LaneState *lane, BlockState &block) {
  __syncthreads();
  if (threadIdx.x == 0) block.ticket = gridDim.x == 1 ? block.ticket + 1 : addRelaxedGpu(&lane->ticket, 1);
  __syncthreads();
}

// A launch's parameters lie in memory that no kernel has read before. Asked for while the kernels before are still at
// work, they cost no time: one load for each line of the constant cache, shared out over the warps.
template <typename Params>
__device__ __forceinline__ void warmUp(const Params &p) {
  constexpr unsigned kLine = 64;
#pragma unroll
  for (unsigned at = 0; at < sizeof(Params); at += kLine) {
    if (at / kLine % (kThreads / 32) != threadIdx.x / 32) continue;
    const uint32_t word = *reinterpret_cast<const uint32_t *>(reinterpret_cast<const uint8_t *>(&p) + at);
    asm volatile("" ::"r"(word));
  }
}

// Waits until the kernels before this one are done; from here on what they left may be read.
__device__ __forceinline__ void awaitTurn(const PhaseParams &p, BlockState &block) {
  MOE_A2A_MARK(0);
  const int thread = threadIdx.x;
  // Windows stay where they are, so they may be looked up before.
  if (thread >= 32 && thread - 32 < p.ranks) block.windows[thread - 32] = rankState(p)->windows[thread - 32];
  waitForEarlierKernel();
  MOE_A2A_MARK(1);
  if (p.startNextEarly) letNextKernelStart();
}

__device__ __forceinline__ int partStart(const Parts &parts, int part) {
  return part * parts.size + min(part, parts.larger);
}

// What each lane of the first warp reads of the state that a phase depends on.
enum StateWord {
  kReadTicket,
  kReadRound,
  kReadGeneration,
  kReadWindowGeneration,
  kReadAlarm,
  kReadFailed,
  kReadStopped,
  kReadActiveLow,
  kReadActiveHigh,
  kReadTokens,
  kReadCompleted,
  kReadEra,
};

// Something is not as it is where all goes well: whether this rank may not send. The first warp.
__device__ __noinline__ inline bool mayNotSend(const PhaseParams &p, int phase, uint32_t word, BlockState &block) {
  const auto from = [&](int source) { return __shfl_sync(0xffffffff, word, source); };
  uint32_t round = from(kReadRound), era = from(kReadEra);
  // The lane's phase before this one has failed, perhaps without any failure of the rank: it was stopped in between.
  bool broken = from(kReadCompleted) != phaseNumber(round, phase) - 1;
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
  const auto generation = static_cast<int32_t>(from(kReadGeneration));
  const uint64_t active = from(kReadActiveLow) | static_cast<uint64_t>(from(kReadActiveHigh)) << 32;
  const bool leftOut = generation != static_cast<int32_t>(from(kReadWindowGeneration));
  const bool stopped = from(kReadFailed) || from(kReadStopped) == kStopAll;
  const int told = from(kReadAlarm) && !leftOut ? findVerdict(p, active, generation, number) : -1;
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

// Reads what a phase depends on, takes the first ticket (`Ordered`; else blocks have theirs by number), and finds out
// whether this rank may send at all. Whole block.
template <bool Ordered>
__device__ __forceinline__ void beginPhase(const PhaseParams &p, int phase, const int32_t *tokenCount, int numTokens,
                                           BlockState &block) {
  const RankState *state = rankState(p);
  LaneState *lane = laneState(p);
  const int thread = threadIdx.x;
  if (thread < 32) {
    uint32_t first = blockIdx.x;
    if (Ordered && thread == 0 && gridDim.x > 1) {
      const bool admitted = gridDim.x <= static_cast<uint32_t>(p.maxBlocks) ||
                            addRelaxedGpu(&lane->admitted, 1) < static_cast<uint32_t>(p.maxBlocks);
      first = admitted ? addRelaxedGpu(&lane->ticket, 1) : kNoTicket;
    }
    // One load, in which each lane reads another word.
    const auto *active32 = reinterpret_cast<const int32_t *>(&state->active);
    const int32_t *address = thread == kReadRound              ? reinterpret_cast<const int32_t *>(&lane->round)
                             : thread == kReadGeneration       ? &state->generation
                             : thread == kReadWindowGeneration ? controlWord(p, kGenerationWord)
                             : thread == kReadAlarm            ? controlWord(p, kAlarmWord)
                             : thread == kReadFailed           ? &state->failed
                             : thread == kReadStopped          ? &state->stopped
                             : thread == kReadActiveLow        ? active32
                             : thread == kReadActiveHigh       ? active32 + 1
                             : thread == kReadCompleted        ? reinterpret_cast<const int32_t *>(&lane->completed)
                             : thread == kReadEra              ? reinterpret_cast<const int32_t *>(&lane->era)
                             : tokenCount                      ? tokenCount
                                                               : active32;
    uint32_t word = loadRelaxedSys(address);
    if (thread == kReadTokens && !tokenCount) word = numTokens;
    const uint32_t round = __shfl_sync(0xffffffff, word, kReadRound),
                   generation = __shfl_sync(0xffffffff, word, kReadGeneration);
    const bool isFine = thread == kReadWindowGeneration                 ? word == generation
                        : thread == kReadAlarm || thread == kReadFailed ? word == 0
                        : thread == kReadStopped                        ? word != kStopAll
                        : thread == kReadCompleted                      ? word == phaseNumber(round, phase) - 1
                                                                        : true;
    if (thread == kReadRound) block.round = word;
    if (thread == kReadGeneration) block.generation = word;
    if (thread == kReadActiveLow) reinterpret_cast<uint32_t *>(&block.active)[0] = word;
    if (thread == kReadActiveHigh) reinterpret_cast<uint32_t *>(&block.active)[1] = word;
    if (thread == kReadTokens) block.numTokens = word;
    if (thread == kReadEra) block.tag = tagOf(generation, word, round);
    const bool blocked = !__all_sync(0xffffffff, isFine) && mayNotSend(p, phase, word, block);
    if (thread == 0) {
      block.ticket = first;
      block.blocked = blocked;
      if (blockIdx.x == 0) lane->together[1 - phase] = {};
    }
  }
  __syncthreads();
  delay(p.delays.beforeStores);
}

constexpr uint64_t kOneFailed = 1ull << 32;

enum Last { kNotLast, kLast, kLastAfterFailure };

// Counts pieces of outgoing work as done. Every block's stores are ordered before its count (`stored`: there are any),
// so the first warp of the block that makes it `all`, which alone is told, may vouch for them by what it stores next.
// Whole block.
__device__ __forceinline__ Last countSent(uint64_t *counter, uint32_t amount, uint32_t all, bool failed, bool stored) {
  const bool blockFailed = __syncthreads_or(failed);
  if (threadIdx.x >= 32) return kNotLast;
  uint64_t sum = all + (blockFailed ? kOneFailed : 0);
  if (gridDim.x > 1) {
    if (threadIdx.x == 0) {
      if (stored) fenceSys();
      const uint64_t mine = amount + (blockFailed ? kOneFailed : 0);
      sum = addRelaxedGpu64(counter, mine) + mine;
    }
    sum = __shfl_sync(0xffffffff, sum, 0);
  }
  if (static_cast<uint32_t>(sum) != all) return kNotLast;
  // Takes in what the others vouched for, and comes before what this warp stores.
  if (stored || gridDim.x > 1) fenceSys();
  return sum >> 32 ? kLastAfterFailure : kLast;
}

// Counts a block that leaves, after a barrier; tells the one that leaves last. Whole block.
__device__ __forceinline__ Last countLeft(uint64_t *counter, bool failed, BlockState &block) {
  // Lest what the last block spoils comes before what this one has stored.
  if (threadIdx.x == 0 && gridDim.x > 1) fenceGpu();
  const bool blockFailed = __syncthreads_or(failed);
  if (gridDim.x == 1) return blockFailed ? kLastAfterFailure : kLast;
  if (threadIdx.x == 0) {
    const uint64_t mine = 1 + (blockFailed ? kOneFailed : 0);
    const uint64_t sum = addRelaxedGpu64(counter, mine) + mine;
    const bool last = static_cast<uint32_t>(sum) == gridDim.x;
    block.left = !last ? kNotLast : sum >> 32 ? kLastAfterFailure : kLast;
    if (block.left == kLastAfterFailure) fenceGpu();
  }
  __syncthreads();
  return static_cast<Last>(block.left);
}

// True where a reset has left this rank out meanwhile: what it has read must not pass as good.
__device__ __forceinline__ bool isLeftOut(const PhaseParams &p, const BlockState &block) {
  return static_cast<int32_t>(loadRelaxedSys(controlWord(p, kGenerationWord))) != block.generation;
}

// Ends a phase. One thread of the block that leaves last.
__device__ inline void endPhase(const PhaseParams &p, int phase, const BlockState &block, bool succeeded) {
  LaneState *lane = laneState(p);
  if (succeeded) {
    storeRelaxedSys(&lane->completed, phaseNumber(block.round, phase));
  } else {
    lane->phaseFailed = 0;
    lane->badEntry = 0;
  }
  lane->sums = 0;
  if (gridDim.x > 1) {
    lane->ticket = 0;
    lane->admitted = 0;
    lane->done = 0;
    lane->exits = 0;
  }
}

}  // namespace moe_a2a
