// The kernels, as the host launches them.
#pragma once

#include "params.hpp"

namespace moe_a2a {

// Take a DispatchParams or a CombineParams; blocks of kThreads threads.
const void *dispatchFunction();
const void *combineFunction(int dtype, int outDtype);

}  // namespace moe_a2a
