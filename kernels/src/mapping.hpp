// How a phase's work is cut into pieces for the blocks of a launch.
#pragma once

#include "moe_a2a.h"

namespace moe_a2a {

// Fills in what `asked` leaves to the library. `maxBlocks`: blocks that may wait on the GPU at the same time.
moe_a2a_mapping chooseMapping(const moe_a2a_mapping &asked, int tokens, int rowBytes, int maxBlocks);

}  // namespace moe_a2a
