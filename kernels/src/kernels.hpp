// The kernels, as the host launches them.
#pragma once

#include "params.hpp"

namespace moe_a2a {

// Take a DispatchParams or a CombineParams; blocks of kThreads threads. `direct`: the kernel for launches where each
// block has one piece of work; see isOneEach() in host/phases.cpp.
const void *dispatchFunction(bool direct);
// Null where there is no such kernel: sums are direct in one dtype.
const void *combineFunction(int dtype, int outDtype, bool direct);

// The same for rounds whose rows go in packets; see goesInPackets() in packet_plan.hpp.
const void *dispatchInPacketsFunction();
const void *combineInPacketsFunction(int dtype, int outDtype);

}  // namespace moe_a2a
