// Errors of the host side: what failed, kept for moe_a2a_last_error().
#pragma once

#include <cuda_runtime_api.h>

#include "moe_a2a.h"

namespace moe_a2a {

// Notes the failure of a CUDA call, and returns the result that stands for it.
int32_t cudaFailed(cudaError_t error, const char *call);
// Makes an error the last one again, after cleaning up.
void keepError(const moe_a2a_error &error);
// Notes why arguments were refused.
int32_t invalid(const char *message);
// Notes why a call failed that CUDA has not failed, and returns `result`.
int32_t fail(int32_t result, const char *message);

// Makes a device current for the calling thread, and the former one again at the end.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice &) = delete;
  OnDevice &operator=(const OnDevice &) = delete;
  cudaError_t error() const { return error_; }

 private:
  int former_ = -1;
  bool changed_ = false;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace moe_a2a

#define MOE_A2A_TRY(call)                                                 \
  do {                                                                    \
    const cudaError_t tried = (call);                                     \
    if (tried != cudaSuccess) return ::moe_a2a::cudaFailed(tried, #call); \
  } while (0)

#define MOE_A2A_ON_DEVICE(device)             \
  const ::moe_a2a::OnDevice onDevice(device); \
  MOE_A2A_TRY(onDevice.error())
