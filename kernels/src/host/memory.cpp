// Device memory, pinned host memory and copies, for callers without CUDA headers.
#include <map>
#include <mutex>

#include "check.hpp"

namespace moe_a2a {
namespace {

std::mutex streamsLock;
std::map<int, cudaStream_t> allocationStreams;

// A stream that only allocates: the pool's memory is there once it has passed. cudaFree would wait for all kernels of the
// device, those that wait for peers among them.
int32_t allocationStream(int device, cudaStream_t *stream) {
  const std::lock_guard<std::mutex> lock(streamsLock);
  cudaStream_t &found = allocationStreams[device];
  if (!found) {
    MOE_A2A_TRY(cudaStreamCreateWithFlags(&found, cudaStreamNonBlocking));
    cudaMemPool_t pool;
    MOE_A2A_TRY(cudaDeviceGetDefaultMemPool(&pool, device));
    uint64_t keepAll = UINT64_MAX;
    MOE_A2A_TRY(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keepAll));
  }
  *stream = found;
  return MOE_A2A_OK;
}

}  // namespace
}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_alloc(int32_t device, uint64_t bytes, uint64_t *address) {
  using namespace moe_a2a;
  MOE_A2A_ON_DEVICE(device);
  *address = 0;
  if (bytes == 0) return MOE_A2A_OK;
  cudaStream_t stream;
  if (const int32_t result = allocationStream(device, &stream)) return result;
  void *memory = nullptr;
  MOE_A2A_TRY(cudaMallocAsync(&memory, bytes, stream));
  MOE_A2A_TRY(cudaStreamSynchronize(stream));
  *address = reinterpret_cast<uint64_t>(memory);
  return MOE_A2A_OK;
}

int32_t moe_a2a_free(int32_t device, uint64_t address) {
  using namespace moe_a2a;
  if (address == 0) return MOE_A2A_OK;
  MOE_A2A_ON_DEVICE(device);
  cudaStream_t stream;
  if (const int32_t result = allocationStream(device, &stream)) return result;
  MOE_A2A_TRY(cudaFreeAsync(reinterpret_cast<void *>(address), stream));
  return MOE_A2A_OK;
}

int32_t moe_a2a_free_window(int32_t device, uint64_t address) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaFree(reinterpret_cast<void *>(address)));
  return MOE_A2A_OK;
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
  MOE_A2A_TRY(cudaMemcpyAsync(reinterpret_cast<void *>(target), reinterpret_cast<const void *>(source), bytes, cudaMemcpyDefault,
                              reinterpret_cast<cudaStream_t>(stream)));
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
