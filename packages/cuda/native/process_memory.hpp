// Memory and events that outlive threads: kept for the whole process, and never given back while kernels may wait.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace moe_a2a_addon {

// Events by device. They are used again rather than destroyed.
class EventPool {
 public:
  // Without timing.
  static EventPool &instance();
  // Those that keep the time.
  static EventPool &timers();
  // Negative where the event cannot be made; moe_a2a_last_error() tells why.
  int32_t take(int32_t device, uint64_t *event);
  void give(int32_t device, uint64_t event);

 private:
  using Make = int32_t (*)(int32_t device, uint64_t *event);
  explicit EventPool(Make make) : make_(make) {}

  const Make make_;
  std::mutex mutex_;
  std::map<int32_t, std::vector<uint64_t>> idle_;
};

/*
 * Device memory of tensors. A freed block waits for the work that may still use it, and then serves another tensor of
 * its size, so that neither a new tensor nor a forgotten one costs a call to the driver's allocator.
 */
class DevicePool {
 public:
  static DevicePool &instance();
  int32_t take(int32_t device, uint64_t bytes, uint64_t *address);
  // `events` pass with the last work that uses the memory. The pool owns them from now on.
  void give(uint64_t address, std::vector<uint64_t> events = {});
  // Frees what no tensor holds and no work uses.
  void trim(int32_t device);
  uint64_t heldBytes(int32_t device);

 private:
  struct Block {
    uint64_t address;
    std::vector<uint64_t> events;
  };
  struct Held {
    int32_t device;
    uint64_t bytes;
  };
  static bool isUnused(int32_t device, Block &block);
  bool takeIdle(int32_t device, uint64_t bytes, uint64_t *address);

  std::mutex mutex_;
  std::unordered_map<uint64_t, Held> held_;
  std::map<std::pair<int32_t, uint64_t>, std::deque<Block>> idle_;
};

// Streams for copies: one per device for those that wait for nothing, shared by all ranks, since hardware queues are
// few; and idle ones for those that wait.
class CopyStreams {
 public:
  static CopyStreams &instance();
  int32_t of(int32_t device, uint64_t *stream);
  // Makes sure that there are some idle ones: making one may take long once kernels wait.
  int32_t reserve(int32_t device);
  int32_t take(int32_t device, uint64_t *stream);
  void give(int32_t device, uint64_t stream);

 private:
  std::mutex mutex_;
  std::map<int32_t, uint64_t> streams_;
  std::map<int32_t, std::vector<uint64_t>> idle_;
};

// Pinned host memory in two sizes, through which tensors are copied.
class StagingPool {
 public:
  static constexpr uint64_t kSmall = 64 << 10;
  static constexpr uint64_t kLarge = 4 << 20;
  static StagingPool &instance();
  // Makes sure that there is some: allocating pinned memory may wait for kernels that wait for peers, so it is done
  // before there are any, as far as that can be foreseen.
  int32_t reserve();
  // At most kLarge bytes.
  int32_t take(uint64_t bytes, void **memory);
  void give(uint64_t bytes, void *memory);

 private:
  int32_t grow(int kind);

  std::mutex mutex_;
  std::vector<void *> idle_[2];
};

/*
 * Windows of instances. Peers may write to a window as long as they live, so the windows of one instance are freed when
 * all its ranks in this process have let go.
 */
class WindowStore {
 public:
  static WindowStore &instance();
  void join(const std::string &key);
  // `address`: 0 where the rank has no window.
  void leave(const std::string &key, int32_t device, uint64_t address);

 private:
  struct Instance {
    int joined = 0;
    int left = 0;
    std::vector<std::pair<int32_t, uint64_t>> windows;
  };
  std::mutex mutex_;
  std::unordered_map<std::string, Instance> instances_;
};

}  // namespace moe_a2a_addon
