// Streams, events and graphs, for callers without CUDA headers.
#include "capture.hpp"
#include "check.hpp"

namespace {

cudaStream_t streamOf(uint64_t handle) { return reinterpret_cast<cudaStream_t>(handle); }
cudaEvent_t eventOf(uint64_t handle) { return reinterpret_cast<cudaEvent_t>(handle); }

int32_t makeEvent(int32_t device, uint64_t *out, unsigned flags) {
  MOE_A2A_ON_DEVICE(device);
  cudaEvent_t event;
  MOE_A2A_TRY(cudaEventCreateWithFlags(&event, flags));
  *out = reinterpret_cast<uint64_t>(event);
  return MOE_A2A_OK;
}

}  // namespace

extern "C" {

int32_t moe_a2a_stream_create(int32_t device, uint64_t *out) {
  MOE_A2A_ON_DEVICE(device);
  cudaStream_t stream;
  MOE_A2A_TRY(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  *out = reinterpret_cast<uint64_t>(stream);
  return MOE_A2A_OK;
}

int32_t moe_a2a_stream_destroy(int32_t device, uint64_t stream) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaStreamDestroy(streamOf(stream)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_stream_synchronize(int32_t device, uint64_t stream) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaStreamSynchronize(streamOf(stream)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_event_create(int32_t device, uint64_t *event) {
  return makeEvent(device, event, cudaEventDisableTiming);
}

int32_t moe_a2a_timer_create(int32_t device, uint64_t *event) { return makeEvent(device, event, cudaEventDefault); }

int32_t moe_a2a_event_destroy(int32_t device, uint64_t event) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaEventDestroy(eventOf(event)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_event_record(int32_t device, uint64_t event, uint64_t stream) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaEventRecord(eventOf(event), streamOf(stream)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_event_wait(int32_t device, uint64_t event, uint64_t stream) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaStreamWaitEvent(streamOf(stream), eventOf(event), 0));
  return MOE_A2A_OK;
}

int32_t moe_a2a_event_query(int32_t device, uint64_t event) {
  MOE_A2A_ON_DEVICE(device);
  const cudaError_t error = cudaEventQuery(eventOf(event));
  if (error == cudaErrorNotReady) {
    cudaGetLastError();
    return MOE_A2A_PENDING;
  }
  MOE_A2A_TRY(error);
  return MOE_A2A_OK;
}

int32_t moe_a2a_event_synchronize(int32_t device, uint64_t event) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaEventSynchronize(eventOf(event)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_event_elapsed(int32_t device, uint64_t start, uint64_t end, float *milliseconds) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaEventElapsedTime(milliseconds, eventOf(start), eventOf(end)));
  return MOE_A2A_OK;
}

int32_t moe_a2a_capture_begin(int32_t device, uint64_t stream, uint64_t *capture) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaStreamBeginCapture(streamOf(stream), cudaStreamCaptureModeRelaxed));
  MOE_A2A_TRY(moe_a2a::captureOf(streamOf(stream), *capture));
  return MOE_A2A_OK;
}

int32_t moe_a2a_capture_end(int32_t device, uint64_t stream, uint64_t *out) {
  MOE_A2A_ON_DEVICE(device);
  *out = 0;
  cudaGraph_t graph = nullptr;
  MOE_A2A_TRY(cudaStreamEndCapture(streamOf(stream), &graph));
  if (!graph) return moe_a2a::invalid("the capture holds nothing, or was broken off");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  MOE_A2A_TRY(error);
  *out = reinterpret_cast<uint64_t>(executable);
  return MOE_A2A_OK;
}

int32_t moe_a2a_stream_capturing(int32_t device, uint64_t stream, uint64_t *capture) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(moe_a2a::captureOf(streamOf(stream), *capture));
  return MOE_A2A_OK;
}

int32_t moe_a2a_graph_launch(int32_t device, uint64_t graph, uint64_t stream, int32_t times) {
  MOE_A2A_ON_DEVICE(device);
  uint64_t capture = 0;
  MOE_A2A_TRY(moe_a2a::captureOf(streamOf(stream), capture));
  if (capture != 0)
    return moe_a2a::fail(MOE_A2A_CAPTURED_OTHERWISE, "the stream is being captured, so that the graph would not run");
  for (int32_t i = 0; i < times; i++) {
    MOE_A2A_TRY(cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(graph), streamOf(stream)));
  }
  return MOE_A2A_OK;
}

int32_t moe_a2a_graph_destroy(int32_t device, uint64_t graph) {
  MOE_A2A_ON_DEVICE(device);
  MOE_A2A_TRY(cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(graph)));
  return MOE_A2A_OK;
}

}  // extern "C"
