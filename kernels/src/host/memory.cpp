// Device memory, pinned host memory and copies, for callers without CUDA headers.
#include <map>
#include <mutex>
#include <vector>

#include "parking.hpp"
#include "pools.hpp"
#include "rank.hpp"

namespace moe_a2a {
namespace {

// What a device's memory comes from. cudaFree and cudaFreeHost wait for all kernels of a device, those that wait for
// peers among them, so memory comes from pools and goes back to them in the order of a stream that does nothing else.
struct DevicePools {
  cudaStream_t stream = nullptr;
  cudaMemPool_t tensors = nullptr;
  cudaMemPool_t windows = nullptr;
};

std::mutex poolsLock;
std::map<int, DevicePools> devicePools;
std::vector<uint8_t *> idleHostBlocks;

// Peers read and write windows, so their pool is open to all devices that can reach this one.
int32_t openToPeers(cudaMemPool_t pool, int device) {
  std::vector<int> peers;
  if (const int32_t result = devicesThatReach(device, &peers)) return result;
  for (const int peer : peers) {
    cudaMemAccessDesc access{};
    access.location = {cudaMemLocationTypeDevice, peer};
    access.flags = cudaMemAccessFlagsProtReadWrite;
    MOE_A2A_TRY(cudaMemPoolSetAccess(pool, &access, 1));
  }
  return MOE_A2A_OK;
}

int32_t makePools(int device, DevicePools &pools) {
  MOE_A2A_TRY(cudaStreamCreateWithFlags(&pools.stream, cudaStreamNonBlocking));
  MOE_A2A_TRY(cudaDeviceGetDefaultMemPool(&pools.tensors, device));
  uint64_t keepAll = UINT64_MAX;
  MOE_A2A_TRY(cudaMemPoolSetAttribute(pools.tensors, cudaMemPoolAttrReleaseThreshold, &keepAll));
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, device};
  MOE_A2A_TRY(cudaMemPoolCreate(&pools.windows, &properties));
  return openToPeers(pools.windows, device);
}

int32_t poolsOf(int device, DevicePools *pools) {
  const std::lock_guard<std::mutex> lock(poolsLock);
  DevicePools &found = devicePools[device];
  if (!found.windows) {
    if (const int32_t result = makePools(device, found)) {
      if (found.windows) cudaMemPoolDestroy(found.windows);
      if (found.stream) cudaStreamDestroy(found.stream);
      found = {};
      return result;
    }
  }
  *pools = found;
  return MOE_A2A_OK;
}

int32_t take(int device, uint64_t bytes, bool isWindow, void **memory) {
  MOE_A2A_ON_DEVICE(device);
  DevicePools pools;
  if (const int32_t result = poolsOf(device, &pools)) return result;
  // Not waited for: memory is given back only when no work uses it, so the order of the host is order enough. A wait
  // could be one for a kernel that waits for peers, since streams share hardware queues.
  const auto allocate = [&] {
    return cudaMallocFromPoolAsync(memory, bytes, isWindow ? pools.windows : pools.tensors, pools.stream);
  };
  cudaError_t error = allocate();
  if (error == cudaErrorMemoryAllocation && unmapParked()) {
    cudaGetLastError();
    error = allocate();
  }
  MOE_A2A_TRY(error);
  return MOE_A2A_OK;
}

int32_t give(int device, uint64_t address) {
  MOE_A2A_ON_DEVICE(device);
  DevicePools pools;
  if (const int32_t result = poolsOf(device, &pools)) return result;
  MOE_A2A_TRY(cudaFreeAsync(reinterpret_cast<void *>(address), pools.stream));
  return MOE_A2A_OK;
}

}  // namespace

int32_t allocateWindow(int device, uint64_t bytes, uint8_t **window) {
  return take(device, bytes, true, reinterpret_cast<void **>(window));
}

void trimPools(int device) {
  const OnDevice onDevice(device);
  DevicePools pools;
  if (onDevice.error() != cudaSuccess || poolsOf(device, &pools) != MOE_A2A_OK) return;
  for (cudaMemPool_t pool : {pools.tensors, pools.windows}) cudaMemPoolTrimTo(pool, 0);
  cudaGetLastError();
}

int32_t devicesThatReach(int device, std::vector<int> *peers) {
  int devices = 0;
  MOE_A2A_TRY(cudaGetDeviceCount(&devices));
  for (int peer = 0; peer < devices; peer++) {
    int32_t reaches = 0;
    if (peer == device || moe_a2a_can_access_peer(peer, device, &reaches) != MOE_A2A_OK || !reaches) continue;
    peers->push_back(peer);
  }
  return MOE_A2A_OK;
}

int32_t takeHostBlock(uint8_t **block) {
  {
    const std::lock_guard<std::mutex> lock(poolsLock);
    if (!idleHostBlocks.empty()) {
      *block = idleHostBlocks.back();
      idleHostBlocks.pop_back();
      return MOE_A2A_OK;
    }
  }
  MOE_A2A_TRY(cudaHostAlloc(reinterpret_cast<void **>(block), kStagingBytes + sizeof(HostPage),
                            cudaHostAllocMapped | cudaHostAllocPortable));
  return MOE_A2A_OK;
}

void giveHostBlock(uint8_t *block) {
  const std::lock_guard<std::mutex> lock(poolsLock);
  idleHostBlocks.push_back(block);
}

}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_alloc(int32_t device, uint64_t bytes, uint64_t *address) {
  *address = 0;
  if (bytes == 0) return MOE_A2A_OK;
  void *memory = nullptr;
  const int32_t result = moe_a2a::take(device, bytes, false, &memory);
  *address = reinterpret_cast<uint64_t>(memory);
  return result;
}

int32_t moe_a2a_free(int32_t device, uint64_t address) {
  return address == 0 ? MOE_A2A_OK : moe_a2a::give(device, address);
}

int32_t moe_a2a_free_window(int32_t device, uint64_t address) {
  // A peer in another process may still write to a shared window, so its memory serves no other.
  return moe_a2a::letGoOfShared(address) ? MOE_A2A_OK : moe_a2a::give(device, address);
}

int32_t moe_a2a_host_alloc(uint64_t bytes, void **memory) {
  MOE_A2A_TRY(cudaHostAlloc(memory, bytes, cudaHostAllocPortable));
  return MOE_A2A_OK;
}

int32_t moe_a2a_host_free(void *memory) {
  MOE_A2A_TRY(cudaFreeHost(memory));
  return MOE_A2A_OK;
}

int32_t moe_a2a_copy(int32_t device, uint64_t target, uint64_t source, uint64_t bytes, uint64_t stream) {
  MOE_A2A_ON_DEVICE(device);
  if (bytes == 0) return MOE_A2A_OK;
  MOE_A2A_TRY(cudaMemcpyAsync(reinterpret_cast<void *>(target), reinterpret_cast<const void *>(source), bytes,
                              cudaMemcpyDefault, reinterpret_cast<cudaStream_t>(stream)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_fill(int32_t device, uint64_t target, int32_t byte, uint64_t bytes, uint64_t stream) {
  MOE_A2A_ON_DEVICE(device);
  if (bytes == 0) return MOE_A2A_OK;
  MOE_A2A_TRY(cudaMemsetAsync(reinterpret_cast<void *>(target), byte, bytes, reinterpret_cast<cudaStream_t>(stream)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_pointer_device(uint64_t address, int32_t *device) {
  cudaPointerAttributes attributes{};
  *device = -1;
  MOE_A2A_TRY(cudaPointerGetAttributes(&attributes, reinterpret_cast<const void *>(address)));
  if (attributes.type == cudaMemoryTypeDevice) *device = attributes.device;
  return MOE_A2A_OK;
}

}  // extern "C"
