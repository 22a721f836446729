#include "driver.hpp"

#include <mutex>

namespace moe_a2a {
namespace {

// The version whose functions are asked for, whatever the driver has besides.
constexpr unsigned kVersion = 12000;

template <typename Function>
int32_t find(const char *name, Function *function) {
  void *found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  MOE_A2A_TRY(cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result));
  if (result != cudaDriverEntryPointSuccess || !found) return cudaFailed(cudaErrorSymbolNotFound, name);
  *function = reinterpret_cast<Function>(found);
  return MOE_A2A_OK;
}

int32_t findAll(Driver &driver) {
#define MOE_A2A_FIND(name) \
  if (const int32_t result = find(#name, &driver.name)) return result
  MOE_A2A_FIND(cuDeviceGet);
  MOE_A2A_FIND(cuDeviceGetAttribute);
  MOE_A2A_FIND(cuMemGetAllocationGranularity);
  MOE_A2A_FIND(cuMemCreate);
  MOE_A2A_FIND(cuMemRelease);
  MOE_A2A_FIND(cuMemAddressReserve);
  MOE_A2A_FIND(cuMemAddressFree);
  MOE_A2A_FIND(cuMemMap);
  MOE_A2A_FIND(cuMemUnmap);
  MOE_A2A_FIND(cuMemSetAccess);
  MOE_A2A_FIND(cuMemExportToShareableHandle);
  MOE_A2A_FIND(cuMemImportFromShareableHandle);
#undef MOE_A2A_FIND
  return MOE_A2A_OK;
}

}  // namespace

int32_t findDriver(const Driver **driver) {
  static std::mutex lock;
  static Driver found;
  static bool isComplete = false;
  const std::lock_guard<std::mutex> guard(lock);
  if (!isComplete) {
    if (const int32_t result = findAll(found)) return result;
    isComplete = true;
  }
  *driver = &found;
  return MOE_A2A_OK;
}

}  // namespace moe_a2a
