#include <cstdio>
#include <cstring>

#include "check.hpp"

extern "C" int32_t moe_a2a_platform(moe_a2a_platform_info *platform) {
  if (!platform || platform->struct_size != sizeof(*platform)) return moe_a2a::invalid("struct_size is wrong");
  if (cudaDriverGetVersion(&platform->driver_version) != cudaSuccess) platform->driver_version = 0;
  if (cudaRuntimeGetVersion(&platform->runtime_version) != cudaSuccess) platform->runtime_version = 0;
  platform->device_count = 0;
  platform->device_error = static_cast<int32_t>(cudaGetDeviceCount(&platform->device_count));
  if (platform->device_error != cudaSuccess) platform->device_count = 0;
  cudaGetLastError();
  return MOE_A2A_OK;
}

extern "C" int32_t moe_a2a_device(int32_t device, moe_a2a_device_info *info) {
  if (!info || info->struct_size != sizeof(*info)) return moe_a2a::invalid("struct_size is wrong");
  cudaDeviceProp properties;
  MOE_A2A_TRY(cudaGetDeviceProperties(&properties, device));
  info->compute_major = properties.major;
  info->compute_minor = properties.minor;
  info->multiprocessors = properties.multiProcessorCount;
  info->total_bytes = properties.totalGlobalMem;
  std::snprintf(info->name, sizeof(info->name), "%.127s", properties.name);
  static_assert(sizeof(info->uuid) == sizeof(properties.uuid.bytes));
  std::memcpy(info->uuid, properties.uuid.bytes, sizeof(info->uuid));
  MOE_A2A_TRY(cudaDeviceGetPCIBusId(info->pci_bus_id, sizeof(info->pci_bus_id), device));
  return MOE_A2A_OK;
}

extern "C" int32_t moe_a2a_can_access_peer(int32_t device, int32_t peer, int32_t *can) {
  *can = 1;
  if (device == peer) return MOE_A2A_OK;
  MOE_A2A_TRY(cudaDeviceCanAccessPeer(can, device, peer));
  return MOE_A2A_OK;
}

extern "C" int32_t moe_a2a_memory(int32_t device, uint64_t *free_bytes, uint64_t *total_bytes) {
  MOE_A2A_ON_DEVICE(device);
  size_t free = 0, total = 0;
  MOE_A2A_TRY(cudaMemGetInfo(&free, &total));
  *free_bytes = free;
  *total_bytes = total;
  return MOE_A2A_OK;
}
