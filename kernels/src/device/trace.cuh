// Clocks at the stages of a phase, for looking into where time goes: only in builds with MOE_A2A_TRACE.
#pragma once

#include <cstdint>

namespace moe_a2a {

#ifdef MOE_A2A_TRACE
constexpr int kTraceStages = 16;
__device__ static long long traceClocks[2 * kTraceStages];
#define MOE_A2A_MARK(stage)                                                   \
  do {                                                                        \
    if (threadIdx.x == 0 && (blockIdx.x == 0 || blockIdx.x == gridDim.x - 1)) \
      traceClocks[stage + (blockIdx.x == 0 ? 0 : kTraceStages)] = clock64();  \
  } while (0)
#else
#define MOE_A2A_MARK(stage) \
  do {                      \
  } while (0)
#endif

}  // namespace moe_a2a
