#include "process_memory.hpp"

#include <algorithm>
#include <bit>

#include "moe_a2a.h"

namespace moe_a2a_addon {

// On the heap for good: at the end of the process the driver may be gone before static destructors run.
EventPool &EventPool::instance() {
  static auto *pool = new EventPool(moe_a2a_event_create);
  return *pool;
}
EventPool &EventPool::timers() {
  static auto *pool = new EventPool(moe_a2a_timer_create);
  return *pool;
}
DevicePool &DevicePool::instance() {
  static auto *pool = new DevicePool;
  return *pool;
}
CopyStreams &CopyStreams::instance() {
  static auto *streams = new CopyStreams;
  return *streams;
}
StagingPool &StagingPool::instance() {
  static auto *pool = new StagingPool;
  return *pool;
}
WindowStore &WindowStore::instance() {
  static auto *store = new WindowStore;
  return *store;
}

int32_t EventPool::take(int32_t device, uint64_t *event) {
  {
    const std::lock_guard lock(mutex_);
    auto &idle = idle_[device];
    if (!idle.empty()) {
      *event = idle.back();
      idle.pop_back();
      return MOE_A2A_OK;
    }
  }
  return make_(device, event);
}

void EventPool::give(int32_t device, uint64_t event) {
  if (event == 0) return;
  const std::lock_guard lock(mutex_);
  idle_[device].push_back(event);
}

namespace {

// Sizes that blocks come in: eight steps per power of two, so that at most an eighth is wasted.
uint64_t blockBytes(uint64_t bytes) {
  constexpr uint64_t kLeast = 512;
  if (bytes <= kLeast) return kLeast;
  const uint64_t step = std::max(kLeast, std::bit_floor(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

}  // namespace

// Whether all work that used the block has passed.
bool DevicePool::isUnused(int32_t device, Block &block) {
  while (!block.events.empty()) {
    if (moe_a2a_event_query(device, block.events.back()) == MOE_A2A_PENDING) return false;
    EventPool::instance().give(device, block.events.back());
    block.events.pop_back();
  }
  return true;
}

bool DevicePool::takeIdle(int32_t device, uint64_t bytes, uint64_t *address) {
  const auto found = idle_.find({device, bytes});
  if (found == idle_.end()) return false;
  auto &blocks = found->second;
  const auto unused = std::find_if(blocks.begin(), blocks.end(), [&](Block &block) { return isUnused(device, block); });
  if (unused == blocks.end()) return false;
  *address = unused->address;
  blocks.erase(unused);
  return true;
}

int32_t DevicePool::take(int32_t device, uint64_t bytes, uint64_t *address) {
  const uint64_t size = blockBytes(bytes);
  bool found;
  {
    const std::lock_guard lock(mutex_);
    found = takeIdle(device, size, address);
    if (found) held_[*address] = {device, size};
  }
  if (found) return MOE_A2A_OK;
  int32_t result = moe_a2a_alloc(device, size, address);
  if (result == MOE_A2A_OUT_OF_MEMORY) {
    trim(device);
    result = moe_a2a_alloc(device, size, address);
  }
  if (result != MOE_A2A_OK) return result;
  const std::lock_guard lock(mutex_);
  held_[*address] = {device, size};
  return MOE_A2A_OK;
}

void DevicePool::give(uint64_t address, std::vector<uint64_t> events) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(address);
  if (found == held_.end()) return;
  const auto [device, bytes] = found->second;
  held_.erase(found);
  idle_[{device, bytes}].push_back({address, std::move(events)});
}

void DevicePool::trim(int32_t device) {
  std::vector<uint64_t> unused;
  {
    const std::lock_guard lock(mutex_);
    for (auto &[key, blocks] : idle_) {
      if (key.first != device) continue;
      std::deque<Block> kept;
      for (Block &block : blocks) {
        if (isUnused(device, block)) unused.push_back(block.address);
        else kept.push_back(std::move(block));
      }
      blocks.swap(kept);
    }
  }
  for (const uint64_t address : unused) moe_a2a_free(device, address);
}

uint64_t DevicePool::heldBytes(int32_t device) {
  const std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const auto &[address, held] : held_) {
    if (held.device == device) bytes += held.bytes;
  }
  return bytes;
}

int32_t CopyStreams::of(int32_t device, uint64_t *stream) {
  const std::lock_guard lock(mutex_);
  uint64_t &found = streams_[device];
  if (found == 0) {
    if (const int32_t result = moe_a2a_stream_create(device, &found); result < 0) return result;
  }
  *stream = found;
  return MOE_A2A_OK;
}

int32_t CopyStreams::reserve(int32_t device) {
  constexpr size_t kReserved = 4;
  const std::lock_guard lock(mutex_);
  auto &idle = idle_[device];
  while (idle.size() < kReserved) {
    uint64_t stream;
    if (const int32_t result = moe_a2a_stream_create(device, &stream); result < 0) return result;
    idle.push_back(stream);
  }
  return MOE_A2A_OK;
}

int32_t CopyStreams::take(int32_t device, uint64_t *stream) {
  {
    const std::lock_guard lock(mutex_);
    auto &idle = idle_[device];
    if (!idle.empty()) {
      *stream = idle.back();
      idle.pop_back();
      return MOE_A2A_OK;
    }
  }
  return moe_a2a_stream_create(device, stream);
}

void CopyStreams::give(int32_t device, uint64_t stream) {
  const std::lock_guard lock(mutex_);
  idle_[device].push_back(stream);
}

// Small blocks come many at a time. Called with the lock held.
int32_t StagingPool::grow(int kind) {
  constexpr int kSmallAtOnce = 32;
  void *memory = nullptr;
  const int32_t result = moe_a2a_host_alloc(kind ? kLarge : kSmall * kSmallAtOnce, &memory);
  if (result != MOE_A2A_OK) return result;
  if (kind) {
    idle_[1].push_back(memory);
  } else {
    for (int i = 0; i < kSmallAtOnce; i++) idle_[0].push_back(static_cast<uint8_t *>(memory) + i * kSmall);
  }
  return MOE_A2A_OK;
}

int32_t StagingPool::reserve() {
  constexpr size_t kEnough[2] = {16, 1};
  const std::lock_guard lock(mutex_);
  for (int kind = 0; kind < 2; kind++) {
    if (idle_[kind].size() >= kEnough[kind]) continue;
    if (const int32_t result = grow(kind)) return result;
  }
  return MOE_A2A_OK;
}

int32_t StagingPool::take(uint64_t bytes, void **memory) {
  const int kind = bytes > kSmall;
  const std::lock_guard lock(mutex_);
  if (idle_[kind].empty()) {
    if (const int32_t result = grow(kind)) return result;
  }
  *memory = idle_[kind].back();
  idle_[kind].pop_back();
  return MOE_A2A_OK;
}

void StagingPool::give(uint64_t bytes, void *memory) {
  const std::lock_guard lock(mutex_);
  idle_[bytes > kSmall].push_back(memory);
}

void WindowStore::join(const std::string &key) {
  const std::lock_guard lock(mutex_);
  instances_[key].joined++;
}

void WindowStore::leave(const std::string &key, int32_t device, uint64_t address) {
  std::vector<std::pair<int32_t, uint64_t>> unused;
  {
    const std::lock_guard lock(mutex_);
    const auto found = instances_.find(key);
    if (found == instances_.end()) return;
    Instance &instance = found->second;
    if (address != 0) instance.windows.emplace_back(device, address);
    if (++instance.left < instance.joined) return;
    unused.swap(instance.windows);
    instances_.erase(found);
  }
  for (const auto &[where, window] : unused) moe_a2a_free_window(where, window);
}

}  // namespace moe_a2a_addon
