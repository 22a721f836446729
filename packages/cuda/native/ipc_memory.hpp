// Device memory that processes share by CUDA IPC, whose handles are plain bytes. All of it may wait for kernels, those
// that wait for peers among them, so it runs on threads of its own.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>

#include "waiter.hpp"

namespace moe_a2a_addon {

using IpcHandle = std::array<uint8_t, 64>;

// What a call brought.
struct IpcMemory {
  uint64_t address = 0;
  // The allocation that holds the address: 0 bytes where the driver does not tell.
  uint64_t base = 0;
  uint64_t bytes = 0;
  // False for memory of pools and mappings, which have no such handle.
  bool isExportable = false;
  // Whether the call is over, as the thread of JavaScript knows.
  bool isOver = false;
  IpcHandle handle{};
};

// Makes memory that can be exported.
TaskResult allocateForIpc(int32_t device, uint64_t bytes, IpcMemory &made);
// The handle of the allocation that holds an address, and where it begins.
TaskResult exportForIpc(int32_t device, uint64_t address, IpcMemory &found);
// Maps an allocation of another process.
TaskResult openIpc(int32_t device, const IpcHandle &handle, IpcMemory &opened);

// What this process has made or opened, so that nothing else is ever freed or unmapped.
class IpcStore {
 public:
  static IpcStore &instance();
  void add(uint64_t address, int32_t device, bool isOwn);
  // Frees what was made, unmaps what was opened, once for each time; MOE_A2A_INVALID where there is nothing.
  TaskResult close(uint64_t address);

 private:
  struct Held {
    int32_t device;
    bool isOwn;
    int times;
  };
  std::mutex mutex_;
  std::map<uint64_t, Held> held_;
};

}  // namespace moe_a2a_addon
