#include "ipc_memory.hpp"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

namespace moe_a2a_addon {

namespace {

// Smaller allocations may share a block with others, which would be exported with them.
constexpr uint64_t kGranularity = 2 << 20;
// The version whose functions are asked for, whatever the driver has besides.
constexpr unsigned kVersion = 12000;

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(IpcHandle));

TaskResult failed(cudaError_t error, const char *call) {
  cudaGetLastError();
  moe_a2a_error told{};
  told.struct_size = sizeof told;
  told.result = error == cudaErrorMemoryAllocation ? MOE_A2A_OUT_OF_MEMORY : MOE_A2A_CUDA;
  told.cuda_error = static_cast<int32_t>(error);
  std::snprintf(told.call, sizeof told.call, "%s", call);
  std::snprintf(told.cuda_name, sizeof told.cuda_name, "%s", cudaGetErrorName(error));
  std::snprintf(told.message, sizeof told.message, "%s", cudaGetErrorString(error));
  return TaskResult(told);
}

// Returns from the calling function where a CUDA call failed.
#define TRY(function, ...)                                                                                      \
  do {                                                                                                          \
    if (const cudaError_t tried = function(__VA_ARGS__); tried != cudaSuccess) return failed(tried, #function); \
  } while (0)

template <typename Function>
cudaError_t findInDriver(const char *name, Function *function) {
  void *found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result);
  if (error != cudaSuccess) return error;
  if (result != cudaDriverEntryPointSuccess || found == nullptr) return cudaErrorSymbolNotFound;
  *function = reinterpret_cast<Function>(found);
  return cudaSuccess;
}

cudaError_t findRange(uint64_t address, IpcMemory &memory) {
  PFN_cuMemGetAddressRange_v3020 range = nullptr;
  if (const cudaError_t error = findInDriver("cuMemGetAddressRange", &range); error != cudaSuccess) return error;
  CUdeviceptr base = 0;
  size_t bytes = 0;
  // CUresult has the numbers of cudaError_t.
  if (const CUresult result = range(&base, &bytes, address); result != CUDA_SUCCESS)
    return static_cast<cudaError_t>(result);
  memory.base = base;
  memory.bytes = bytes;
  return cudaSuccess;
}

}  // namespace

TaskResult allocateForIpc(int32_t device, uint64_t bytes, IpcMemory &made) {
  TRY(cudaSetDevice, device);
  void *memory = nullptr;
  const uint64_t whole = (bytes + kGranularity - 1) / kGranularity * kGranularity;
  TRY(cudaMalloc, &memory, whole);
  made.address = made.base = reinterpret_cast<uint64_t>(memory);
  made.bytes = whole;
  IpcStore::instance().add(made.address, device, true);
  return MOE_A2A_OK;
}

TaskResult exportForIpc(int32_t device, uint64_t address, IpcMemory &found) {
  TRY(cudaSetDevice, device);
  PFN_cuPointerGetAttribute_v4000 attribute = nullptr;
  if (const cudaError_t error = findInDriver("cuPointerGetAttribute", &attribute); error != cudaSuccess)
    return failed(error, "cudaGetDriverEntryPointByVersion");
  // The driver writes a bool, of a size that its documentation leaves open.
  uint64_t capable = 0;
  const CUresult asked = attribute(&capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, address);
  found.address = address;
  if (asked == CUDA_SUCCESS && capable == 0) return MOE_A2A_OK;
  if (const cudaError_t error = findRange(address, found); error != cudaSuccess)
    return failed(error, "cuMemGetAddressRange");
  cudaIpcMemHandle_t handle;
  const cudaError_t error = cudaIpcGetMemHandle(&handle, reinterpret_cast<void *>(found.base));
  // What it says of memory that it has no handle for.
  if (error == cudaErrorInvalidValue) {
    cudaGetLastError();
    return MOE_A2A_OK;
  }
  if (error != cudaSuccess) return failed(error, "cudaIpcGetMemHandle");
  std::memcpy(found.handle.data(), &handle, sizeof handle);
  found.isExportable = true;
  return MOE_A2A_OK;
}

TaskResult openIpc(int32_t device, const IpcHandle &given, IpcMemory &opened) {
  TRY(cudaSetDevice, device);
  cudaIpcMemHandle_t handle;
  std::memcpy(&handle, given.data(), sizeof handle);
  void *memory = nullptr;
  TRY(cudaIpcOpenMemHandle, &memory, handle, cudaIpcMemLazyEnablePeerAccess);
  opened.address = reinterpret_cast<uint64_t>(memory);
  if (findRange(opened.address, opened) != cudaSuccess) cudaGetLastError();
  IpcStore::instance().add(opened.address, device, false);
  return MOE_A2A_OK;
}

// On the heap for good: at the end of the process the driver may be gone before static destructors run.
IpcStore &IpcStore::instance() {
  static auto *store = new IpcStore;
  return *store;
}

void IpcStore::add(uint64_t address, int32_t device, bool isOwn) {
  const std::lock_guard lock(mutex_);
  const auto [held, isNew] = held_.try_emplace(address, Held{device, isOwn, 0});
  held->second.times++;
}

TaskResult IpcStore::close(uint64_t address) {
  Held found{};
  {
    const std::lock_guard lock(mutex_);
    const auto held = held_.find(address);
    if (held == held_.end()) return TaskResult("there is no such memory", 0, 0);
    found = held->second;
    if (--held->second.times == 0) held_.erase(held);
  }
  TRY(cudaSetDevice, found.device);
  void *memory = reinterpret_cast<void *>(address);
  if (found.isOwn) TRY(cudaFree, memory);
  else TRY(cudaIpcCloseMemHandle, memory);
  return MOE_A2A_OK;
}

}  // namespace moe_a2a_addon
