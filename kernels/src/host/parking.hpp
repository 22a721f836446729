// Shared windows that this process maps, and when it lets go of them. Unmapping may wait for all kernels of a device,
// those that wait for peers among them; so windows that nobody needs are parked until no rank of the process is open or
// at work.
#pragma once

#include <chrono>
#include <cstdint>

#include "shared_window.hpp"

struct moe_a2a_rank;

namespace moe_a2a {

// Ranks whose kernels may wait for peers.
void noteOpened(const moe_a2a_rank *rank);
void noteClosed(const moe_a2a_rank *rank);

// A window that other processes can map. moe_a2a_free_window() lets go of it.
int32_t allocateSharedWindow(int device, uint64_t bytes, int32_t how, uint8_t **window);

// The window that is mapped at an address, if any.
bool findShared(uint64_t address, SharedWindow *window);
// Parks the window at an address; false where there is none.
bool letGoOfShared(uint64_t address);

// Unmaps what is parked, once no rank is at work; false where nothing was unmapped within `patience`.
bool unmapParked(std::chrono::milliseconds patience = {});

}  // namespace moe_a2a
