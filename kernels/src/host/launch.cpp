#include "launch.hpp"

#include "../wire_plan.hpp"
#include "capture.hpp"

namespace moe_a2a {

PhaseParams phaseParams(const moe_a2a_rank &rank, int lane) {
  PhaseParams p{};
  p.window = rank.window;
  p.own = rank.own;
  p.host = rank.hostOnDevice;
  p.at = rank.layout.lanes[lane];
  p.control = rank.layout.control;
  p.abortRecords = rank.layout.abort_records;
  p.state = rank.layout.state;
  p.timeoutNs = static_cast<uint64_t>(rank.config.timeout_ms) * 1000000ull;
  p.statsRowBytes = rank.layout.stats_row_bytes;
  p.rank = rank.options.rank;
  p.ranks = rank.config.ep_size;
  p.lane = lane;
  p.topK = rank.config.top_k;
  p.maxTargets = rank.layout.max_targets;
  p.maxBlocks = rank.maxBlocks;
  // With two lanes, or a GPU that is shared out, a kernel that only holds its place could keep out one that a peer
  // waits for.
  p.startNextEarly = rank.programmaticLaunch && rank.config.rounds_in_flight == 1 && rank.options.max_sms <= 0;
  return p;
}

int32_t launch(moe_a2a_rank &rank, const void *kernel, int blocks, void *params, const Place &place, int lane,
               int phase) {
  MOE_A2A_ON_DEVICE(rank.options.device);
  const auto stream = place.stream ? reinterpret_cast<cudaStream_t>(place.stream) : rank.stream;
  // Else the caller would take for run what only a replay runs, or the reverse.
  uint64_t capture = 0;
  MOE_A2A_TRY(captureOf(stream, capture));
  if (capture == kBrokenCapture && place.capture)
    return cudaFailed(cudaErrorStreamCaptureInvalidated, "cudaStreamGetCaptureInfo");
  if (capture != place.capture) {
    return fail(MOE_A2A_CAPTURED_OTHERWISE, place.capture
                                                ? "the stream is not part of the capture that the phase is for"
                                                : "the stream is being captured, and the phase is not for a capture");
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = rank.programmaticLaunch ? 1 : 0;
  void *arguments[] = {params};
  MOE_A2A_TRY(cudaLaunchKernelExC(&config, kernel, arguments));
  if (capture != 0) return MOE_A2A_OK;
  PhaseEvents &events = rank.events[lane][phase];
  MOE_A2A_TRY(cudaEventRecord(events.next(), stream));
  events.taken++;
  return MOE_A2A_OK;
}

bool takesPackets(const moe_a2a_rank &rank, int slots, uint64_t perRow, uint64_t room) {
  return rank.options.wire_form == MOE_A2A_WIRE_CHOSEN &&
         goesInPackets(rank.config, slots, perRow, packetArea(rank.config, room));
}

bool fitsTile(const moe_a2a_mapping &m) {
  return m.kind >= 0 && m.kind <= 2 && m.tokens_per_tile >= 0 && m.tokens_per_tile <= kMaxTile && m.splits >= 0 &&
         m.splits <= 64 && m.blocks >= 0 && m.blocks <= 65535 && m.slots_by >= 0 && m.slots_by <= 2;
}

}  // namespace moe_a2a

extern "C" int32_t moe_a2a_phase_event(const moe_a2a_rank *rank, int32_t lane, int32_t phase, uint64_t *event) {
  if (!event || lane < 0 || lane >= MOE_A2A_MAX_LANES || phase < 0 || phase > 1)
    return moe_a2a::invalid("lane or phase is out of range");
  *event = reinterpret_cast<uint64_t>(rank->events[lane][phase].last());
  return MOE_A2A_OK;
}

extern "C" int32_t moe_a2a_phase_events(const moe_a2a_rank *rank, int32_t lane, int32_t phase, uint64_t *events) {
  if (!events || lane < 0 || lane >= MOE_A2A_MAX_LANES || phase < 0 || phase > 1)
    return moe_a2a::invalid("lane or phase is out of range");
  for (int i = 0; i < MOE_A2A_PHASE_EVENTS; i++)
    events[i] = reinterpret_cast<uint64_t>(rank->events[lane][phase].events[i]);
  return MOE_A2A_OK;
}
