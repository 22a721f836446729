// Memory of ranks, from pools that never wait for kernels.
#pragma once

#include <cstdint>
#include <vector>

namespace moe_a2a {

// Memory that all devices which can reach `device` may read and write. moe_a2a_free_window() gives it back.
int32_t allocateWindow(int device, uint64_t bytes, uint8_t **window);
// Gives back to the device what its pools hold and nothing uses.
void trimPools(int device);

// The other devices whose kernels can load and store memory of `device`.
int32_t devicesThatReach(int device, std::vector<int> *peers);

// Mapped, pinned host memory of kStagingBytes and a HostPage; blocks are kept for the next rank.
int32_t takeHostBlock(uint8_t **block);
void giveHostBlock(uint8_t *block);

}  // namespace moe_a2a
