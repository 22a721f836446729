// How the blocks of a phase in packets share its work. Each does the outgoing piece of its own number, and
// one that has waited for a while does those of blocks that have not begun: so nobody waits for long while outgoing
// work is in no running block, and yet a block asks for its rows before it knows anything else. Packets that are sent
// twice are the same, and those of a phase come before those of the next.
#pragma once

#include "together.cuh"

namespace moe_a2a {

__device__ __forceinline__ uint64_t *pieceMark(const PhaseParams &p, int phase, int piece) {
  return reinterpret_cast<uint64_t *>(p.own + p.at.piece_marks) + phase * kPieces + piece;
}

// Says that a running block does a piece. One thread.
__device__ __forceinline__ void takePiece(const PhaseParams &p, const BlockState &block, int phase, int piece) {
  storeRelaxedGpu64(pieceMark(p, phase, piece), block.tag);
}

// A piece that no block has begun, or `pieces`. Whole block.
__device__ __noinline__ inline int findFreePiece(const PhaseParams &p, BlockState &block, int phase, int pieces) {
  __syncthreads();
  if (threadIdx.x == 0) block.ticket = pieces;
  __syncthreads();
  for (int piece = threadIdx.x; piece < pieces; piece += kThreads) {
    if (loadRelaxedGpu64(pieceMark(p, phase, piece)) != block.tag) atomicMin(&block.ticket, piece);
  }
  __syncthreads();
  return static_cast<int>(block.ticket);
}

}  // namespace moe_a2a
