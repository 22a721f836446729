// In which form rows go over the wire, and how the work of such a phase is cut. Needs no GPU.
#pragma once

#include "params.hpp"

namespace moe_a2a {

// Whether rows of `perRow` packets go in packets, with `slots` per rank: from values that all ranks agree on. `area`
// has room for the packets of a phase.
bool goesInPackets(const moe_a2a_config &config, int slots, uint64_t perRow, uint64_t area);

// Cuts a phase in which a rank sends rows and receives rows, and returns the blocks of its launch.
int planPackets(PacketParams &packets, uint64_t perRow, int sendRows, int receiveRows, const moe_a2a_mapping &asked,
                int maxBlocks);

// Bytes of a rank's results from which on they are pushed rather than pulled, where phases of some rank take no more
// than `fewestSms` SMs, where 0 stands for all: then they never are.
uint64_t pushedFrom(int fewestSms);

// Whether results are pushed in rows, with `slots` per rank, if they are `least` bytes or more: from values that all
// ranks agree on.
bool pushesRows(const moe_a2a_config &config, const moe_a2a_layout &layout, int slots, uint64_t rowBytes,
                uint64_t least);

// Cuts a combine that pushes rows: `received` of them at most, for sums of `rows` tokens. Returns the blocks of its
// launch.
int planPush(PushParams &push, int64_t received, int rows, const moe_a2a_mapping &asked, int maxBlocks);

}  // namespace moe_a2a
