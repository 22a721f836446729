#include "check.hpp"

#include <cstdio>
#include <cstring>

namespace moe_a2a {
namespace {

thread_local moe_a2a_error lastError = {sizeof(moe_a2a_error), MOE_A2A_OK, 0, "", "", ""};

void copyText(char *target, size_t size, const char *text) { std::snprintf(target, size, "%s", text ? text : ""); }

}  // namespace

int32_t cudaFailed(cudaError_t error, const char *call) {
  // What is noted here must not be found again by the next call.
  cudaGetLastError();
  lastError = {};
  lastError.struct_size = sizeof(lastError);
  lastError.result = error == cudaErrorMemoryAllocation ? MOE_A2A_OUT_OF_MEMORY : MOE_A2A_CUDA;
  lastError.cuda_error = static_cast<int32_t>(error);
  copyText(lastError.call, sizeof(lastError.call), call);
  if (char *arguments = std::strchr(lastError.call, '(')) *arguments = '\0';
  copyText(lastError.cuda_name, sizeof(lastError.cuda_name), cudaGetErrorName(error));
  copyText(lastError.message, sizeof(lastError.message), cudaGetErrorString(error));
  return lastError.result;
}

int32_t fail(int32_t result, const char *message) {
  lastError = {};
  lastError.struct_size = sizeof(lastError);
  lastError.result = result;
  copyText(lastError.message, sizeof(lastError.message), message);
  return result;
}

int32_t invalid(const char *message) { return fail(MOE_A2A_INVALID, message); }

void keepError(const moe_a2a_error &error) { lastError = error; }

OnDevice::OnDevice(int device) {
  error_ = cudaGetDevice(&former_);
  if (error_ != cudaSuccess || former_ == device) return;
  error_ = cudaSetDevice(device);
  changed_ = error_ == cudaSuccess;
}

OnDevice::~OnDevice() {
  if (changed_) cudaSetDevice(former_);
}

}  // namespace moe_a2a

extern "C" void moe_a2a_last_error(moe_a2a_error *error) {
  if (error) *error = moe_a2a::lastError;
}
