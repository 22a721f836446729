// Arguments of the kernels: what is fixed when a phase is enqueued, or captured. The rest is read from device memory.
#pragma once

#include "wire.hpp"

namespace moe_a2a {

constexpr int kThreads = 256;
constexpr int kWarpLog2 = 5;
constexpr int kThreadsLog2 = 8;
static_assert(kThreads == 1 << kThreadsLog2);
constexpr int kMaxTile = 32;
// Vectors of a row that a thread has under way at once.
constexpr int kHeldVectors = 4;
// Blocks per SM of a phase: more do not move more bytes.
constexpr int kBlocksPerSm = 3;
// The same of a phase in packets, whose blocks hold more in registers.
constexpr int kPacketBlocksPerSm = 2;
// With more tokens, looking at all their ids in each block costs more than a scan's hop through memory.
constexpr int kMaxCounted = 1024;
// With more experts, a rank is worked out rather than looked up.
constexpr int kMaxOwners = 1024;

// Divides 31-bit numbers by a constant (Granlund and Montgomery, PLDI 1994).
struct Divisor {
  uint32_t divisor;
  uint32_t multiplier;
  int32_t shift;
};

// Contiguous placement: the first `extra` ranks own one expert more than the others.
struct Placement {
  int32_t numExperts;
  int32_t boundary;
  int32_t extra;
  Divisor larger;
  Divisor smaller;
};

struct Delays {
  uint32_t beforeStores, beforeFlag, afterFlag, afterWait;
};

// Cuts something into parts of nearly equal size; the first `larger` have one more.
struct Parts {
  int32_t size;
  int32_t larger;
};

// Rows that go in packets; see docs/protocol.md.
struct PacketParams {
  int32_t perRow;  // packets of a token's rows, or of its result
  int32_t pieces;  // of outgoing work: the headers, then parts of rows; blocks claim them
  Parts sent;      // of the packets of a row that is sent, one for each split
  Parts received;
  int32_t sendSplits;
  int32_t receiveSplits;
  int32_t headerLast;  // a combine's header waits for its results to be sent
};

// Results that are pushed in rows; see docs/protocol.md.
struct PushParams {
  uint64_t rows;    // byte offset of [ranks, maxTokens, rowBytes] in a window
  int32_t senders;  // shares of the rows, all of which are in running blocks before any block waits
  int32_t headerLast;
  int32_t sendsOwn;  // this rank's results for its own tokens, too: they cannot be summed where they are
};

// What both phases need.
struct PhaseParams {
  uint8_t *window;
  uint8_t *own;  // private memory
  HostPage *host;
  moe_a2a_lane_layout at;
  uint64_t control;
  uint64_t abortRecords;
  uint64_t state;
  uint64_t timeoutNs;
  uint64_t statsRowBytes;
  int32_t rank;
  int32_t ranks;
  int32_t lane;
  int32_t topK;
  int32_t maxTargets;
  int32_t maxTokens;
  int32_t maxBlocks;  // that may take part, and so wait, at the same time; the others of a larger grid leave at once
  int32_t startNextEarly;  // the next kernel may take its place while this one waits for peers
  Delays delays;
};

struct PayloadParams {
  const uint8_t *source;
  uint64_t target;  // byte offset of [ranks, maxTokens, rowBytes] in a window
  int32_t rowBytes;
  int32_t vectorLog2;   // width of the widest access that source, target and rows allow
  int32_t word;         // of the threads that share a token, the first that sends 4 bytes of this row; -1: all send
  Parts parts;          // of a row's vectors, one for each split
  int32_t firstPacket;  // of this row among those of a token
};

struct DispatchParams {
  PhaseParams phase;
  PacketParams packets;
  Placement placement;
  PayloadParams payloads[MOE_A2A_MAX_PAYLOADS];
  const int32_t *ids;
  const int32_t *tokenCount;  // null: numTokens counts
  const int32_t *stats;
  int32_t numTokens;  // or rows, where tokenCount says how many of them count
  int32_t payloadCount;
  int32_t idPayload;
  int32_t invalidId;
  int32_t statsLength;
  int32_t dropInvalid;
  int32_t fillPadding;
  int32_t tokensPerTile;
  int32_t splits;
  int32_t lanesLog2;  // threads that share a token: a warp, or a block
  int32_t longest;    // payload with the longest rows
  int32_t hasMore;    // than threads hold at once: of the longest rows, or of others
  int32_t scan;
  int32_t idVectors;     // a token's ids allow 16-byte accesses
  int32_t receivers;     // shares of the padding, of which the block that tells fills the first
  int32_t flagsPerRank;  // of blocks, that a window has room for
};

struct CombineParams {
  PhaseParams phase;
  PacketParams packets;
  PushParams push;
  const uint8_t *expertOutput;  // null: it lies in the window
  uint8_t *output;
  int32_t hiddenSize;
  int32_t dtype;
  int32_t outDtype;
  int32_t rowBytes;
  int32_t copyVectorLog2;
  int32_t vectorized;  // rows and output allow 16-byte accesses
  int32_t copyTickets;
  int32_t tokensPerTile;
  int32_t splits;
  int32_t lanesLog2;    // threads that share a token: a warp, or a block
  Parts parts;          // of a row's vectors, or elements where they are summed one by one
  int32_t rows;         // of the output
  int32_t storesWhole;  // a packet's sums go out in one access
};

}  // namespace moe_a2a
