// The kernels, as the host launches them.
#pragma once

#include "params.hpp"

namespace moe_a2a {

// Take a DispatchParams or a CombineParams; blocks of kThreads threads.
const void *dispatchFunction();
const void *combineFunction(int dtype);

// The same for launches where each block has one piece of work; see host/dispatch_phase.cpp and host/combine_phase.cpp.
const void *dispatchDirectlyFunction();
const void *combineDirectlyFunction(int dtype);

// The same for rounds whose rows go in packets; see goesInPackets() in wire_plan.hpp.
const void *dispatchInPacketsFunction();
const void *combineInPacketsFunction(int dtype);

// The same for rounds whose results are pushed in rows; see pushesRows() in wire_plan.hpp.
const void *combineByPushFunction(int dtype);

}  // namespace moe_a2a
