// The machine's GPUs as the driver and its management library tell of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe_a2a.h"

namespace moe_a2a_addon {

struct Inspection {
  struct Device {
    moe_a2a_device_info info{};
    // Negative where no context can be made, as on a GPU that another process has to itself.
    int64_t freeBytes = -1;
  };
  struct Peer {
    bool access = false;
    bool atomics = false;
  };

  moe_a2a_platform_info platform{};
  // As "580.95.05"; empty where nobody says.
  std::string driverRelease;
  std::vector<Device> devices;
  // By device and peer, row by row.
  std::vector<Peer> peers;
};

// Takes as long as making a context on each GPU. Negative where a GPU cannot be asked.
int32_t inspect(Inspection &inspection);

}  // namespace moe_a2a_addon
