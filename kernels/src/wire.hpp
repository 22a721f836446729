// What lies in windows and in a rank's state: read and written by kernels and by the host. See docs/protocol.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.hpp"

namespace moe_a2a {

// Messages go in packets of 16 bytes, stored and loaded whole: the round that they belong to, which makes them flags,
// and three words. A packet that does not carry this round yet has not arrived.
struct alignas(16) Packet {
  uint32_t round;
  uint32_t words[3];
};

// What a rank believes about a round and how many rows it sent, word by word.
enum DispatchWord {
  kWordGeneration,
  kWordMaxTokens,
  kWordPayloadCount,
  // These three may differ between ranks.
  kWordCount,
  kWordPieces,  // that its rows are sent in, and flags vouch for
  kWordFlags,   // places where these flags may come
  kWordStatsLength,
  kWordRowBytes,
  kDispatchWords = kWordRowBytes + MOE_A2A_MAX_PAYLOADS,
};
constexpr int kDispatchPackets = (kDispatchWords + 2) / 3;
static_assert(kDispatchPackets * sizeof(Packet) <= kDispatchHeaderBytes);
// One packet.
static_assert(kWordCount % 3 == 0 && kWordPieces == kWordCount + 1 && kWordFlags == kWordCount + 2);

enum CombineWord { kWordCombineGeneration, kWordHiddenSize, kWordDtype, kCombineWords };
constexpr int kCombinePackets = 1;
static_assert(kCombinePackets * sizeof(Packet) <= kCombineHeaderBytes);

// 8 bytes of a row with the tag of their round, stored and loaded whole.
struct alignas(16) RowPacket {
  uint64_t data;
  uint64_t tag;
};
static_assert(sizeof(RowPacket) == kPacketBytes);

// Eras go from 1 to this, so that no tag is 0, which is what new windows are full of.
constexpr uint32_t kLastEra = 4095;
// Does not come again before 4095 * 2^32 rounds of one generation, or 2^20 resets: packets are never wiped.
MOE_A2A_BOTH constexpr uint64_t tagOf(int32_t generation, uint32_t era, uint32_t round) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(generation) << 12 | era) << 32) | round;
}
MOE_A2A_BOTH constexpr uint32_t eraOf(uint64_t tag) { return static_cast<uint32_t>(tag >> 32) & kLastEra; }

// A failure as a kernel finds it.
struct Finding {
  int32_t code;  // enum moe_a2a_failure_code
  int32_t foundBy;
  int32_t phase;
  int32_t lane;
  uint32_t round;
  int32_t kind;
  int32_t field;
  int32_t rank;
  int32_t token;
  int32_t k;
  int32_t id;
  int32_t value;
  int32_t limit;
  int32_t valuesPerRank;
  uint64_t missingMask;
  uint64_t valuesMask;
  int32_t values[MOE_A2A_MAX_RANKS * MOE_A2A_MAX_PAYLOADS];
};

// A verdict in a peer's window; `set` is written last.
struct VerdictHead {
  int32_t set;
  int32_t generation;
  uint32_t completed[MOE_A2A_MAX_LANES];
};
struct FoundVerdict {
  VerdictHead head;
  Finding finding;
};
struct AbortVerdict {
  VerdictHead head;
  int32_t rank;  // that called abort()
  int32_t textBytes;
  int32_t unused[2];
  char text[MOE_A2A_TEXT_BYTES];
};
// A rank's kernels and its host may fail at the same moment, so each has a place of its own in an abort record; another
// is for the abort of a third rank, passed on.
enum VerdictPlace { kFound, kAborted, kPassedOn, kVerdictPlaces };
constexpr uint64_t kAbortVerdictStride = 832;
MOE_A2A_BOTH constexpr uint64_t verdictOffset(int place) {
  return place == kFound ? 0 : 2304 + static_cast<uint64_t>(place - kAborted) * kAbortVerdictStride;
}
static_assert(sizeof(FoundVerdict) <= verdictOffset(kAborted) && sizeof(AbortVerdict) <= kAbortVerdictStride &&
              verdictOffset(kVerdictPlaces) <= kAbortRecordBytes);

// What a dispatch came to, by round; overwritten kReports rounds later.
struct Report {
  uint32_t round;
  int32_t known;
  int32_t numTokens;
  int32_t tokensSent;
  int32_t tokensReceived;
  int32_t dropped[3];
  uint64_t waitNs[MOE_A2A_MAX_RANKS];
};
constexpr int kReports = 16;
enum Dropped { kDroppedPadding, kDroppedInvalid, kDroppedInactive };

// A count of blocks or of pieces of work has those that failed in its upper half.
constexpr uint32_t kOneFailed = 1u << 16;

// How a phase ends; cleared by the other phase of its lane. Its first block moves the state of the lane on when it has
// heard from all peers, though others may have work left, or may not even have begun.
struct alignas(8) Together {
  uint32_t blocks;  // that take part, from when the first has begun
  uint32_t left;    // those that have left
};

// Progress of a phase; cleared by the other phase of its lane.
struct alignas(16) Work {
  uint32_t ticket;    // pieces of work that blocks have taken
  uint32_t admitted;  // blocks of a grid that is too large
  uint32_t sums;      // tokens that warps have begun to sum, where results are pushed
  uint32_t done;      // pieces of outgoing work
};

struct LaneState {
  // What each phase looks at first. Pairs are stored and loaded whole: who sees a number sees what belongs to it.
  alignas(8) uint32_t round;  // of the next dispatch, or of the combine after a dispatch
  uint32_t era;               // grows when round numbers wrap; see tagOf()
  uint32_t completed;         // last phase that succeeded: 2 * round + phase
  uint32_t tokens;            // L of the last dispatch, and kEndedEarly
  Together together[2];
  Work work[2];
  uint64_t tags[2];    // with `together`: the round that the phase is of, and its era, as tagOf() has them
  int32_t dropped[3];  // of the tokens of a dispatch that were counted in words so far
  uint64_t badEntry;   // ~(token * topK + k) of the first bad id among them; 0: none
  Report reports[kReports];
};

static_assert(offsetof(LaneState, round) == 0 && offsetof(LaneState, completed) == 8 &&
              offsetof(LaneState, together) == 16);
// With `tokens`: the blocks of the phase that completed last may not all have left; see Together.
constexpr uint32_t kEndedEarly = 1u << 31;

struct RankState {
  alignas(8) int32_t generation;
  int32_t failed;              // enum Failed: a kernel has found or was told a failure
  alignas(8) int32_t stopped;  // enum Stop, set by the host
  int32_t byAbort;             // 1: the failure is in `abort`, else in `finding`
  uint64_t active;             // mask of ranks
  uint64_t windows[MOE_A2A_MAX_RANKS];
  Finding finding;
  AbortVerdict abort;  // as a peer told it
};
enum Failed { kFailureClaimed = 1, kFailureDescribed = 2 };
enum Stop { kGoOn = 0, kStopAll = 1, kStopWaiting = 2 };

constexpr uint64_t kLaneStates = 8192;
constexpr uint64_t kLaneStateBytes = 12288;
static_assert(sizeof(RankState) <= kLaneStates && sizeof(LaneState) <= kLaneStateBytes &&
              kLaneStates + MOE_A2A_MAX_LANES * kLaneStateBytes <= kStateBytes);

// Told to the host in mapped memory.
struct HostPage {
  int32_t failed;
};

MOE_A2A_BOTH constexpr uint32_t phaseNumber(uint32_t round, int phase) {
  return 2 * round + static_cast<uint32_t>(phase);
}

// The last phase that has surely succeeded, where `completed` is what the lane says, and `together` is of that phase.
MOE_A2A_BOTH constexpr uint32_t surelyCompleted(uint32_t completed, uint32_t blocks, uint32_t left) {
  return left != blocks ? completed - 1 : completed;
}

}  // namespace moe_a2a
