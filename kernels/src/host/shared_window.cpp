#include "shared_window.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "../layout.hpp"
#include "driver.hpp"
#include "pools.hpp"

namespace moe_a2a {
namespace {

// An IPC handle stands for whole pages, which must not hold anything else.
constexpr uint64_t kIpcGranularity = 2 << 20;
static_assert(sizeof(cudaIpcMemHandle_t) == MOE_A2A_WINDOW_OPAQUE_BYTES &&
              sizeof(CUmemFabricHandle) == MOE_A2A_WINDOW_OPAQUE_BYTES);

bool has(const Driver &driver, int device, CUdevice_attribute attribute) {
  CUdevice handle;
  int value = 0;
  return driver.cuDeviceGet(&handle, device) == CUDA_SUCCESS &&
         driver.cuDeviceGetAttribute(&value, attribute, handle) == CUDA_SUCCESS && value != 0;
}

CUmemAllocationHandleType handleType(int32_t kind) {
  return kind == MOE_A2A_WINDOW_FABRIC ? CU_MEM_HANDLE_TYPE_FABRIC : CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
}

int32_t exportDescriptor(const Driver &driver, uint64_t memory, int32_t *fd) {
  int made = -1;
  MOE_A2A_TRY_DRIVER(driver, cuMemExportToShareableHandle, &made, memory, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  fcntl(made, F_SETFD, FD_CLOEXEC);
  *fd = made;
  return MOE_A2A_OK;
}

int32_t createMemory(const Driver &driver, SharedWindow &window) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = handleType(window.kind);
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = window.device;
  size_t granularity = 0;
  MOE_A2A_TRY_DRIVER(driver, cuMemGetAllocationGranularity, &granularity, &properties,
                     CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  window.mappedBytes = alignUp(window.bytes, granularity);
  CUmemGenericAllocationHandle memory = 0;
  MOE_A2A_TRY_DRIVER(driver, cuMemCreate, &memory, window.mappedBytes, &properties, 0);
  window.memory = memory;
  return MOE_A2A_OK;
}

// Finds out now whether the memory can be exported, while another kind can still be taken.
int32_t tryExport(const Driver &driver, SharedWindow &window) {
  if (window.kind == MOE_A2A_WINDOW_FABRIC) {
    MOE_A2A_TRY_DRIVER(driver, cuMemExportToShareableHandle, window.opaque, window.memory, CU_MEM_HANDLE_TYPE_FABRIC,
                       0);
    return MOE_A2A_OK;
  }
  int32_t fd = -1;
  if (const int32_t result = exportDescriptor(driver, window.memory, &fd)) return result;
  close(fd);
  return MOE_A2A_OK;
}

// Maps the window's memory where the given devices may read and write it.
int32_t map(const Driver &driver, const std::vector<int> &devices, SharedWindow &window) {
  CUdeviceptr address = 0;
  MOE_A2A_TRY_DRIVER(driver, cuMemAddressReserve, &address, window.mappedBytes, 0, 0, 0);
  const CUresult mapped = driver.cuMemMap(address, window.mappedBytes, 0, window.memory, 0);
  if (mapped != CUDA_SUCCESS) {
    driver.cuMemAddressFree(address, window.mappedBytes);
    return driverFailed(mapped, "cuMemMap");
  }
  window.address = address;
  std::vector<CUmemAccessDesc> access(devices.size());
  for (size_t i = 0; i < devices.size(); i++) {
    access[i].location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access[i].location.id = devices[i];
    access[i].flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  }
  MOE_A2A_TRY_DRIVER(driver, cuMemSetAccess, address, window.mappedBytes, access.data(), access.size());
  return MOE_A2A_OK;
}

// Memory that was never mapped is in no kernel's way.
void dropUnmapped(const Driver &driver, SharedWindow &window) {
  if (window.address != 0 || window.memory == 0) return;
  driver.cuMemRelease(window.memory);
  window.memory = 0;
}

int32_t makeByDriver(const Driver &driver, int32_t kind, SharedWindow &window) {
  window.kind = kind;
  std::memset(window.opaque, 0, sizeof(window.opaque));
  // Ranks of this process reach it like any other window.
  std::vector<int> devices;
  if (const int32_t result = devicesThatReach(window.device, &devices)) return result;
  devices.push_back(window.device);
  int32_t result = createMemory(driver, window);
  if (result == MOE_A2A_OK) result = tryExport(driver, window);
  if (result == MOE_A2A_OK) result = map(driver, devices, window);
  if (result != MOE_A2A_OK) dropUnmapped(driver, window);
  return result;
}

int32_t makeForIpc(SharedWindow &window) {
  window.kind = MOE_A2A_WINDOW_IPC;
  window.mappedBytes = alignUp(window.bytes, kIpcGranularity);
  void *memory = nullptr;
  MOE_A2A_TRY(cudaMalloc(&memory, window.mappedBytes));
  window.address = reinterpret_cast<uint64_t>(memory);
  cudaIpcMemHandle_t handle;
  MOE_A2A_TRY(cudaIpcGetMemHandle(&handle, memory));
  std::memcpy(window.opaque, &handle, sizeof(handle));
  return MOE_A2A_OK;
}

// Whether the last call failed because the machine does not grant what was asked for.
bool wasRefused() {
  moe_a2a_error error{};
  moe_a2a_last_error(&error);
  return error.cuda_error == cudaErrorNotSupported || error.cuda_error == cudaErrorNotPermitted;
}

int32_t openIpc(const moe_a2a_window_handle &given, SharedWindow &window) {
  cudaIpcMemHandle_t handle;
  std::memcpy(&handle, given.opaque, sizeof(handle));
  void *memory = nullptr;
  MOE_A2A_TRY(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess));
  window.address = reinterpret_cast<uint64_t>(memory);
  return MOE_A2A_OK;
}

int32_t importMemory(const Driver &driver, int32_t fd, SharedWindow &window) {
  void *handle = window.kind == MOE_A2A_WINDOW_FABRIC ? static_cast<void *>(window.opaque)
                                                      : reinterpret_cast<void *>(static_cast<uintptr_t>(fd));
  CUmemGenericAllocationHandle memory = 0;
  MOE_A2A_TRY_DRIVER(driver, cuMemImportFromShareableHandle, &memory, handle, handleType(window.kind));
  window.memory = memory;
  return MOE_A2A_OK;
}

}  // namespace

int32_t makeSharedWindow(int device, uint64_t bytes, int32_t how, SharedWindow *window) {
  MOE_A2A_ON_DEVICE(device);
  // Functions of the driver need the context to be current, which that of the runtime would make it when it is used.
  MOE_A2A_TRY(cudaSetDevice(device));
  const Driver *driver = nullptr;
  if (const int32_t result = findDriver(&driver)) return result;
  *window = {};
  window->device = device;
  window->bytes = bytes;
  if (how == MOE_A2A_SHAREABLE_FABRIC && has(*driver, device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED)) {
    const int32_t result = makeByDriver(*driver, MOE_A2A_WINDOW_FABRIC, *window);
    if (result == MOE_A2A_OK || result == MOE_A2A_OUT_OF_MEMORY || window->address != 0) return result;
  }
  if (how != MOE_A2A_SHAREABLE_IPC && has(*driver, device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) &&
      has(*driver, device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED)) {
    const int32_t result = makeByDriver(*driver, MOE_A2A_WINDOW_DESCRIPTOR, *window);
    if (result == MOE_A2A_OK || window->address != 0 || !wasRefused()) return result;
  }
  return makeForIpc(*window);
}

int32_t importSharedWindow(int device, const moe_a2a_window_handle &handle, int32_t fd, SharedWindow *window) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaSetDevice(device));
  *window = {};
  window->kind = handle.kind;
  window->device = device;
  window->imported = true;
  window->bytes = handle.bytes;
  window->mappedBytes = handle.mapped_bytes;
  if (handle.kind == MOE_A2A_WINDOW_IPC) return openIpc(handle, *window);
  std::memcpy(window->opaque, handle.opaque, sizeof(window->opaque));
  const Driver *driver = nullptr;
  if (const int32_t result = findDriver(&driver)) return result;
  int32_t result = importMemory(*driver, fd, *window);
  if (result == MOE_A2A_OK) result = map(*driver, {device}, *window);
  if (result != MOE_A2A_OK) dropUnmapped(*driver, *window);
  return result;
}

int32_t exportSharedWindow(const SharedWindow &window, moe_a2a_window_handle *handle, int32_t *fd) {
  MOE_A2A_ON_DEVICE(window.device);
  MOE_A2A_TRY(cudaSetDevice(window.device));
  handle->kind = window.kind;
  handle->bytes = window.bytes;
  handle->mapped_bytes = window.mappedBytes;
  std::memcpy(handle->opaque, window.opaque, sizeof(handle->opaque));
  *fd = -1;
  cudaDeviceProp properties;
  MOE_A2A_TRY(cudaGetDeviceProperties(&properties, window.device));
  std::memcpy(handle->device_uuid, properties.uuid.bytes, sizeof(handle->device_uuid));
  if (window.kind != MOE_A2A_WINDOW_DESCRIPTOR) return MOE_A2A_OK;
  const Driver *driver = nullptr;
  if (const int32_t result = findDriver(&driver)) return result;
  return exportDescriptor(*driver, window.memory, fd);
}

void unmapSharedWindow(const SharedWindow &window) {
  const OnDevice onDevice(window.device);
  cudaSetDevice(window.device);
  void *memory = reinterpret_cast<void *>(window.address);
  const Driver *driver = nullptr;
  if (window.kind == MOE_A2A_WINDOW_IPC) {
    if (window.imported) cudaIpcCloseMemHandle(memory);
    else cudaFree(memory);
  } else if (findDriver(&driver) == MOE_A2A_OK) {
    driver->cuMemUnmap(window.address, window.mappedBytes);
    driver->cuMemRelease(window.memory);
    driver->cuMemAddressFree(window.address, window.mappedBytes);
  }
  cudaGetLastError();
}

}  // namespace moe_a2a
