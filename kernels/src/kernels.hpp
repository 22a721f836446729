// The kernels, as the host launches them.
#pragma once

#include "params.hpp"

namespace moe_a2a {

// Take a DispatchParams or a CombineParams; blocks of kThreads threads. `direct`: the kernel for launches where each
// block has one piece of work; see isOneEach() in host/phases.cpp.
const void *dispatchFunction(bool direct);
// Null where there is no such kernel: sums are direct in one dtype.
const void *combineFunction(int dtype, int outDtype, bool direct);

}  // namespace moe_a2a
