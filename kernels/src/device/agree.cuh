// What ranks have to agree on in each phase, and how a disagreement is told.
#pragma once

#include "begin.cuh"

namespace moe_a2a {

struct Field {
  int id;
  int firstWord;
  int words;
};

// In the order in which a disagreement is reported.
__device__ constexpr Field kDispatchFields[] = {
    {MOE_A2A_FIELD_GENERATION, 0, 1},   {MOE_A2A_FIELD_ROUND, 1, 1},     {MOE_A2A_FIELD_MAX_TOKENS, 2, 1},
    {MOE_A2A_FIELD_PAYLOAD_COUNT, 3, 1}, {MOE_A2A_FIELD_ROW_BYTES, 4, 8}, {MOE_A2A_FIELD_STATS_LENGTH, 12, 1},
};
__device__ constexpr Field kCombineFields[] = {
    {MOE_A2A_FIELD_GENERATION, 0, 1},
    {MOE_A2A_FIELD_ROUND, 1, 1},
    {MOE_A2A_FIELD_HIDDEN_SIZE, 2, 1},
    {MOE_A2A_FIELD_DTYPE, 3, 1},
};

// Compares what all active ranks said: headers lie `stride` bytes apart in this rank's window, unused row bytes are 0.
// One warp; true where all agree, else the phase has failed.
template <int Fields>
__device__ inline bool ranksAgree(const PhaseParams &p, const BlockState &block, int phase, const Field (&fields)[Fields],
                           uint64_t headers, uint64_t stride) {
  const int laneId = threadIdx.x & 31;
  const auto header = [&](int source) {
    return reinterpret_cast<const uint32_t *>(p.window + headers + source * stride);
  };
  const uint32_t *mine = header(p.rank);
  unsigned differing = 0;
  for (int source = laneId; source < p.ranks; source += 32) {
    if (!(block.active >> source & 1)) continue;
    const uint32_t *theirs = header(source);
#pragma unroll
    for (int f = 0; f < Fields; f++) {
      for (int w = fields[f].firstWord; w < fields[f].firstWord + fields[f].words; w++) {
        differing |= (loadRelaxedSys(theirs + w) != loadRelaxedSys(mine + w) ? 1u : 0u) << f;
      }
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) differing |= __shfl_xor_sync(0xffffffff, differing, offset);
  if (differing == 0) return true;
  if (laneId == 0) {
    const Field field = fields[__ffs(differing) - 1];
    fail(p, block.round, phase, MOE_A2A_FAIL_MISMATCH, true, [&](Finding &finding) {
      finding.field = field.id;
      finding.valuesMask = block.active;
      finding.valuesPerRank = field.words;
      for (int source = 0; source < p.ranks; source++) {
        if (!(block.active >> source & 1)) continue;
        const uint32_t *theirs = header(source);
        const int payloads = field.id == MOE_A2A_FIELD_ROW_BYTES ? loadRelaxedSys(theirs + 3) : field.words;
        for (int w = 0; w < field.words; w++) {
          finding.values[source * field.words + w] =
              w < payloads ? static_cast<int32_t>(loadRelaxedSys(theirs + field.firstWord + w)) : -1;
        }
      }
    });
  }
  return false;
}

}  // namespace moe_a2a
