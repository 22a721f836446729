// What it takes to launch a phase, whichever it is.
#pragma once

#include "rank.hpp"

namespace moe_a2a {

// What is the same for all phases of a rank, once it has its memory.
PhaseParams phaseParams(const moe_a2a_rank &rank, int lane);

// Where a phase goes to: a stream (0: the rank's own), and the capture that this is part of (0: none).
struct Place {
  uint64_t stream;
  uint64_t capture;
};

// One launch, and the phase's event behind it, unless a graph is captured.
int32_t launch(moe_a2a_rank &rank, const void *kernel, int blocks, void *params, const Place &place, int lane,
               int phase);

// Widest access that an address and a row length allow, as a power of two of at most 16 bytes.
inline int vectorLog2(uint64_t address, uint64_t rowBytes) { return __builtin_ctzll(address | rowBytes | 16); }

inline Parts partsOf(int count, int parts) { return {count / parts, count % parts}; }

// Pieces of work that so many tokens come to.
inline int piecesOf(int tokens, const moe_a2a_mapping &m) {
  return (tokens + m.tokens_per_tile - 1) / m.tokens_per_tile * m.splits;
}

// Whether a phase's rows of `perRow` packets go in packets; `room` is what the plan has laid out for, per token.
bool takesPackets(const moe_a2a_rank &rank, int slots, uint64_t perRow, uint64_t room);

// Whether a mapping that a test asked for is one.
bool fitsTile(const moe_a2a_mapping &mapping);

}  // namespace moe_a2a
