// Windows that other processes can map, and those of other processes as this one maps them.
#pragma once

#include <cstdint>

#include "moe_a2a.h"

namespace moe_a2a {

struct SharedWindow {
  int32_t kind = 0;  // enum moe_a2a_window_kind
  int device = 0;    // whose kernels use the address
  bool imported = false;
  uint64_t address = 0;  // 0 until it is mapped
  uint64_t bytes = 0;    // that were asked for
  uint64_t mappedBytes = 0;
  uint64_t memory = 0;                            // the driver's handle of what lies behind the address, or 0
  uint8_t opaque[MOE_A2A_WINDOW_OPAQUE_BYTES]{};  // fabric or IPC handle
};

// Each of these may fail with the window mapped already: whoever sees an address has to park it (parking.hpp).

// `how` is one of enum moe_a2a_shareable.
int32_t makeSharedWindow(int device, uint64_t bytes, int32_t how, SharedWindow *window);
int32_t importSharedWindow(int device, const moe_a2a_window_handle &handle, int32_t fd, SharedWindow *window);

// A new descriptor, or -1 for a kind without one.
int32_t exportSharedWindow(const SharedWindow &window, moe_a2a_window_handle *handle, int32_t *fd);

// May wait for all kernels of the device. Memory goes once no process maps it any more.
void unmapSharedWindow(const SharedWindow &window);

}  // namespace moe_a2a
