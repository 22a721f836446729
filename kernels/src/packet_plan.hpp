// Which rounds go in packets, and how their work is cut. Needs no GPU.
#pragma once

#include "params.hpp"

namespace moe_a2a {

// Whether rows of `perRow` packets go in packets, with `slots` per rank: from values that all ranks agree on. `area`
// has room for the packets of a phase.
bool goesInPackets(const moe_a2a_config &config, int slots, uint64_t perRow, uint64_t area);

// Cuts a phase in which a rank sends rows and receives rows, and returns the blocks of its launch.
int planPackets(PacketParams &packets, uint64_t perRow, int sendRows, int receiveRows, const moe_a2a_mapping &asked,
                int maxBlocks);

}  // namespace moe_a2a
