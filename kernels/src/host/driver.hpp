// Functions of the driver for memory that processes share, found at run time: nothing here links libcuda.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include "check.hpp"

namespace moe_a2a {

struct Driver {
  PFN_cuDeviceGet_v2000 cuDeviceGet;
  PFN_cuDeviceGetAttribute_v2000 cuDeviceGetAttribute;
  PFN_cuMemGetAllocationGranularity_v10020 cuMemGetAllocationGranularity;
  PFN_cuMemCreate_v10020 cuMemCreate;
  PFN_cuMemRelease_v10020 cuMemRelease;
  PFN_cuMemAddressReserve_v10020 cuMemAddressReserve;
  PFN_cuMemAddressFree_v10020 cuMemAddressFree;
  PFN_cuMemMap_v10020 cuMemMap;
  PFN_cuMemUnmap_v10020 cuMemUnmap;
  PFN_cuMemSetAccess_v10020 cuMemSetAccess;
  PFN_cuMemExportToShareableHandle_v10020 cuMemExportToShareableHandle;
  PFN_cuMemImportFromShareableHandle_v10020 cuMemImportFromShareableHandle;
};

// The driver's functions; an error where there is no driver, or one without them.
int32_t findDriver(const Driver **driver);

// CUresult has the numbers of cudaError_t.
inline int32_t driverFailed(CUresult error, const char *call) {
  static_assert(static_cast<int>(CUDA_ERROR_OUT_OF_MEMORY) == static_cast<int>(cudaErrorMemoryAllocation) &&
                static_cast<int>(CUDA_ERROR_NOT_SUPPORTED) == static_cast<int>(cudaErrorNotSupported) &&
                static_cast<int>(CUDA_ERROR_NOT_PERMITTED) == static_cast<int>(cudaErrorNotPermitted));
  return cudaFailed(static_cast<cudaError_t>(error), call);
}

}  // namespace moe_a2a

// Calls one of the functions of `driver`, a const Driver &.
#define MOE_A2A_TRY_DRIVER(driver, function, ...)                                \
  do {                                                                           \
    const CUresult tried = (driver).function(__VA_ARGS__);                       \
    if (tried != CUDA_SUCCESS) return ::moe_a2a::driverFailed(tried, #function); \
  } while (0)
