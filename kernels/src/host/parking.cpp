#include "parking.hpp"

#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "pools.hpp"
#include "rank.hpp"

namespace moe_a2a {
namespace {

using Clock = std::chrono::steady_clock;

// How long a window that does not fit waits for parked ones to make room.
constexpr std::chrono::milliseconds kPatience{1000};

std::mutex mappingsLock;
std::set<const moe_a2a_rank *> openRanks;
// By address, which CUDA IPC gives twice to whoever imports a window twice.
std::multimap<uint64_t, SharedWindow> mapped;
std::vector<SharedWindow> parked;

bool hasPassed(cudaEvent_t event) {
  const cudaError_t error = cudaEventQuery(event);
  // On a broken device nothing runs any more.
  if (error != cudaSuccess) cudaGetLastError();
  return error != cudaErrorNotReady;
}

bool isAtWork(const moe_a2a_rank &rank) {
  for (int l = 0; l < rank.config.rounds_in_flight; l++) {
    // Not the last alone: the rank's thread may be about to take another.
    for (const PhaseEvents &phase : rank.events[l]) {
      for (cudaEvent_t event : phase.events) {
        if (!hasPassed(event)) return true;
      }
    }
  }
  return !hasPassed(rank.replayEvent);
}

void park(const SharedWindow &window) {
  const std::lock_guard<std::mutex> lock(mappingsLock);
  parked.push_back(window);
}

int32_t hold(int32_t result, const SharedWindow &window) {
  if (result == MOE_A2A_OK) {
    const std::lock_guard<std::mutex> lock(mappingsLock);
    mapped.emplace(window.address, window);
  } else if (window.address != 0) {
    park(window);
  }
  return result;
}

}  // namespace

void noteOpened(const moe_a2a_rank *rank) {
  const std::lock_guard<std::mutex> lock(mappingsLock);
  openRanks.insert(rank);
}

void noteClosed(const moe_a2a_rank *rank) {
  const std::lock_guard<std::mutex> lock(mappingsLock);
  openRanks.erase(rank);
}

int32_t allocateSharedWindow(int device, uint64_t bytes, int32_t how, uint8_t **address) {
  SharedWindow window;
  unmapParked();
  int32_t result = hold(makeSharedWindow(device, bytes, how, &window), window);
  if (result == MOE_A2A_OUT_OF_MEMORY) {
    // Memory of a pool that nothing uses, and windows that are parked.
    trimPools(device);
    unmapParked(kPatience);
    result = hold(makeSharedWindow(device, bytes, how, &window), window);
  }
  if (result == MOE_A2A_OK) *address = reinterpret_cast<uint8_t *>(window.address);
  return result;
}

bool findShared(uint64_t address, SharedWindow *window) {
  const std::lock_guard<std::mutex> lock(mappingsLock);
  const auto found = mapped.find(address);
  if (found == mapped.end()) return false;
  *window = found->second;
  return true;
}

bool letGoOfShared(uint64_t address) {
  {
    const std::lock_guard<std::mutex> lock(mappingsLock);
    const auto found = mapped.find(address);
    if (found == mapped.end()) return false;
    parked.push_back(found->second);
    mapped.erase(found);
  }
  unmapParked();
  return true;
}

bool unmapParked(std::chrono::milliseconds patience) {
  const auto end = Clock::now() + patience;
  for (;;) {
    {
      const std::lock_guard<std::mutex> lock(mappingsLock);
      if (parked.empty()) return false;
      bool idle = true;
      for (const moe_a2a_rank *rank : openRanks) idle = idle && !isAtWork(*rank);
      if (idle) {
        for (const SharedWindow &window : parked) unmapSharedWindow(window);
        parked.clear();
        return true;
      }
    }
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_rank_export_window(const moe_a2a_rank *rank, moe_a2a_window_handle *handle, int32_t *fd) {
  using namespace moe_a2a;
  if (!rank || !handle || !fd || handle->struct_size != sizeof(*handle))
    return invalid("a pointer is null or a struct_size wrong");
  SharedWindow window;
  if (!findShared(reinterpret_cast<uint64_t>(rank->window), &window))
    return invalid("the rank was created without options.shareable");
  return exportSharedWindow(window, handle, fd);
}

int32_t moe_a2a_import_window(int32_t device, const moe_a2a_window_handle *handle, int32_t fd, uint64_t *address) {
  using namespace moe_a2a;
  if (!handle || !address || handle->struct_size != sizeof(*handle))
    return invalid("a pointer is null or a struct_size wrong");
  if (handle->kind < MOE_A2A_WINDOW_DESCRIPTOR || handle->kind > MOE_A2A_WINDOW_IPC)
    return invalid("the handle is of no known kind");
  if (handle->bytes == 0 || handle->bytes > handle->mapped_bytes) return invalid("the handle's sizes are impossible");
  if (handle->kind == MOE_A2A_WINDOW_DESCRIPTOR && fd < 0) return invalid("the handle needs its descriptor");
  SharedWindow window;
  unmapParked();
  const int32_t result = hold(importSharedWindow(device, *handle, fd, &window), window);
  if (result == MOE_A2A_OK) *address = window.address;
  return result;
}

int32_t moe_a2a_release_imported_window(uint64_t address) {
  using namespace moe_a2a;
  SharedWindow window;
  if (!findShared(address, &window) || !window.imported) return invalid("no window was imported to this address");
  letGoOfShared(address);
  return MOE_A2A_OK;
}

}  // extern "C"
