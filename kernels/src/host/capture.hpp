// Whether a stream is being captured, and for whom.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace moe_a2a {

// Of a capture that was broken, which has no name any more.
constexpr uint64_t kBrokenCapture = UINT64_MAX;

// The name of the capture that a stream is part of; 0 where there is none.
inline cudaError_t captureOf(cudaStream_t stream, uint64_t &capture) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  const cudaError_t error = cudaStreamGetCaptureInfo(stream, &status, &id);
  capture = status == cudaStreamCaptureStatusNone     ? 0
            : status == cudaStreamCaptureStatusActive ? id + 1
                                                      : kBrokenCapture;
  return error;
}

}  // namespace moe_a2a
