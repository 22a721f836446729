// How the host fails a rank, leaves, or tells of peers that have left: by copies beside the kernels that wait.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "rank.hpp"

namespace moe_a2a {
namespace {

// Writes one word of device memory. `slot` of the staging memory must not be in use.
cudaError_t writeWord(moe_a2a_rank &rank, uint64_t address, int32_t value, int slot) {
  auto *staged = reinterpret_cast<int32_t *>(rank.staging + kStagingBytes / 2) + slot;
  *staged = value;
  return copyToDevice(rank, reinterpret_cast<void *>(address), staged, sizeof(value));
}

uint64_t controlWordOf(const moe_a2a_rank &rank, int peer, uint64_t word) {
  return rank.windows[peer] + rank.layout.control + word;
}

bool isPeer(const moe_a2a_rank &rank, int r) { return r != rank.options.rank && (rank.active >> r & 1); }

int32_t stop(moe_a2a_rank &rank, int32_t how) {
  const uint64_t word = reinterpret_cast<uint64_t>(rank.own) + rank.layout.state + offsetof(RankState, stopped);
  MOE_A2A_TRY(writeWord(rank, word, how, 0));
  MOE_A2A_TRY(cudaStreamSynchronize(rank.side));
  return MOE_A2A_OK;
}

// Writes this rank's verdict into the windows of its active peers: all of it, then the word that vouches for it.
int32_t tellAbort(moe_a2a_rank &rank) {
  constexpr size_t head = offsetof(LaneState, reports);
  auto *verdict = reinterpret_cast<AbortVerdict *>(rank.staging);
  for (int l = 0; l < rank.config.rounds_in_flight; l++) {
    uint8_t *copy = rank.staging + sizeof(*verdict);
    MOE_A2A_TRY(copyToHost(rank, copy, rank.own + laneStateAt(rank, l), head));
    MOE_A2A_TRY(cudaStreamSynchronize(rank.side));
    LaneState lane;
    std::memcpy(&lane, copy, head);
    const Together &together = lane.together[lane.completed & 1];
    verdict->head.completed[l] = surelyCompleted(lane.completed, together.blocks, together.left);
  }
  verdict->head.set = 0;
  verdict->head.generation = rank.generation;
  verdict->rank = rank.options.rank;
  verdict->textBytes = static_cast<int32_t>(rank.abortReason.size());
  std::memcpy(verdict->text, rank.abortReason.data(), rank.abortReason.size());
  for (int r = 0; r < rank.config.ep_size; r++) {
    if (!isPeer(rank, r)) continue;
    const uint64_t record = rank.windows[r] + rank.layout.abort_records +
                            static_cast<uint64_t>(rank.options.rank) * kAbortRecordBytes + verdictOffset(kAborted);
    MOE_A2A_TRY(copyToDevice(rank, reinterpret_cast<void *>(record), verdict, sizeof(*verdict)));
    MOE_A2A_TRY(writeWord(rank, record + offsetof(VerdictHead, set), 1, 1));
    MOE_A2A_TRY(writeWord(rank, controlWordOf(rank, r, kAlarmWord), 1, 1));
  }
  MOE_A2A_TRY(cudaStreamSynchronize(rank.side));
  return MOE_A2A_OK;
}

}  // namespace
}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_abort(moe_a2a_rank *rank, const char *reason, int32_t reason_bytes) {
  using namespace moe_a2a;
  if (moe_a2a_has_failed(rank)) return MOE_A2A_OK;
  MOE_A2A_ON_DEVICE(rank->options.device);
  rank->aborted = true;
  int32_t bytes = reason ? std::clamp(reason_bytes, 0, MOE_A2A_TEXT_BYTES) : 0;
  // Cut between characters, not inside one.
  while (bytes > 0 && bytes < reason_bytes && (reason[bytes] & 0xc0) == 0x80) bytes--;
  rank->abortReason.assign(reason ? reason : "", static_cast<size_t>(bytes));
  // This rank's own kernels end, whether or not peers could be told.
  const int32_t told = rank->connected ? tellAbort(*rank) : MOE_A2A_OK;
  const int32_t stopped = stop(*rank, kStopAll);
  return told ? told : stopped;
}

int32_t moe_a2a_stop(moe_a2a_rank *rank, int32_t still_send) {
  MOE_A2A_ON_DEVICE(rank->options.device);
  return moe_a2a::stop(*rank, still_send ? moe_a2a::kStopWaiting : moe_a2a::kStopAll);
}

int32_t moe_a2a_mark_gone(moe_a2a_rank *rank, int32_t peer, int32_t kind) {
  using namespace moe_a2a;
  if (peer < 0 || peer >= rank->config.ep_size || (kind != MOE_A2A_CLOSED && kind != MOE_A2A_LOST))
    return invalid("peer or kind is out of range");
  MOE_A2A_ON_DEVICE(rank->options.device);
  const uint64_t control = reinterpret_cast<uint64_t>(rank->window) + rank->layout.control;
  MOE_A2A_TRY(writeWord(*rank, control + closedWord(peer), kind, 2));
  MOE_A2A_TRY(writeWord(*rank, control + kAlarmWord, 1, 3));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  return MOE_A2A_OK;
}

int32_t moe_a2a_announce_close(moe_a2a_rank *rank) {
  using namespace moe_a2a;
  if (!rank->connected) return MOE_A2A_OK;
  MOE_A2A_ON_DEVICE(rank->options.device);
  // What is enqueued is sent before the word that says that nothing more will come.
  for (int l = 0; l < rank->config.rounds_in_flight; l++) {
    for (const PhaseEvents &phase : rank->events[l]) MOE_A2A_TRY(cudaStreamWaitEvent(rank->side, phase.last(), 0));
  }
  MOE_A2A_TRY(cudaStreamWaitEvent(rank->side, rank->replayEvent, 0));
  for (int r = 0; r < rank->config.ep_size; r++) {
    if (r == rank->options.rank) continue;
    MOE_A2A_TRY(writeWord(*rank, controlWordOf(*rank, r, closedWord(rank->options.rank)), MOE_A2A_CLOSED, 4));
    MOE_A2A_TRY(writeWord(*rank, controlWordOf(*rank, r, kAlarmWord), 1, 5));
  }
  return MOE_A2A_OK;
}

int32_t moe_a2a_is_left_out(moe_a2a_rank *rank, int32_t *left_out) {
  using namespace moe_a2a;
  MOE_A2A_ON_DEVICE(rank->options.device);
  MOE_A2A_TRY(copyToHost(*rank, rank->staging, rank->window + rank->layout.control + kGenerationWord, 4));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  int32_t generation;
  std::memcpy(&generation, rank->staging, sizeof(generation));
  *left_out = generation != rank->generation;
  return MOE_A2A_OK;
}

int32_t moe_a2a_note_replay(moe_a2a_rank *rank, uint64_t stream) {
  MOE_A2A_ON_DEVICE(rank->options.device);
  const auto onto = stream ? reinterpret_cast<cudaStream_t>(stream) : rank->stream;
  MOE_A2A_TRY(cudaEventRecord(rank->replayEvent, onto));
  return MOE_A2A_OK;
}

int32_t moe_a2a_replay_event(const moe_a2a_rank *rank, uint64_t *event) {
  *event = reinterpret_cast<uint64_t>(rank->replayEvent);
  return MOE_A2A_OK;
}

int32_t moe_a2a_drain(moe_a2a_rank *rank) {
  MOE_A2A_ON_DEVICE(rank->options.device);
  for (int l = 0; l < rank->config.rounds_in_flight; l++) {
    for (const auto &phase : rank->events[l]) MOE_A2A_TRY(cudaEventSynchronize(phase.last()));
  }
  MOE_A2A_TRY(cudaEventSynchronize(rank->replayEvent));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->stream));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  return MOE_A2A_OK;
}

}  // extern "C"
