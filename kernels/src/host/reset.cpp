// The steps of a reset, in the order of docs/protocol.md.
#include <cstddef>
#include <cstring>
#include <vector>

#include "rank.hpp"

namespace moe_a2a {
namespace {

int32_t upload(moe_a2a_rank &rank, uint64_t offset, const std::vector<uint32_t> &words) {
  const uint64_t bytes = words.size() * sizeof(uint32_t);
  static_assert(kRoundBuffers * MOE_A2A_MAX_RANKS * kDispatchHeaderBytes <= kStagingBytes);
  std::memcpy(rank.staging, words.data(), bytes);
  MOE_A2A_TRY(copyToDevice(rank, rank.window + offset, rank.staging, bytes));
  MOE_A2A_TRY(cudaStreamSynchronize(rank.side));
  return MOE_A2A_OK;
}

int32_t startLane(moe_a2a_rank &rank, int lane, uint32_t nextRound) {
  LaneState state{};
  state.round = nextRound;
  state.era = 1;
  state.completed = phaseNumber(nextRound - 1, MOE_A2A_COMBINE);
  constexpr size_t head = offsetof(LaneState, reports);
  std::memcpy(rank.staging, &state, head);
  MOE_A2A_TRY(copyToDevice(rank, rank.own + laneStateAt(rank, lane), rank.staging, head));
  MOE_A2A_TRY(cudaStreamSynchronize(rank.side));
  rank.lanes[lane] = {};
  return MOE_A2A_OK;
}

}  // namespace
}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_clean(moe_a2a_rank *rank, const uint32_t *next_rounds) {
  using namespace moe_a2a;
  MOE_A2A_ON_DEVICE(rank->options.device);
  const uint64_t ranks = static_cast<uint64_t>(rank->config.ep_size);
  for (int l = 0; l < rank->config.rounds_in_flight; l++) {
    const moe_a2a_lane_layout &at = rank->layout.lanes[l];
    // Packets of earlier rounds, in every place: nobody has sent a message of the next one.
    const auto before = [&](uint64_t bytes) {
      std::vector<uint32_t> words(bytes / sizeof(uint32_t), 0);
      for (size_t w = 0; w < words.size(); w += sizeof(Packet) / sizeof(uint32_t)) words[w] = next_rounds[l] - 1;
      return words;
    };
    if (const int32_t result = upload(*rank, at.dispatch_headers, before(kRoundBuffers * ranks * kDispatchHeaderBytes)))
      return result;
    if (const int32_t result = upload(*rank, at.combine_headers, before(ranks * kCombineHeaderBytes))) return result;
  }
  // By copies, not memsets: those may be kernels, which would queue behind kernels of other instances.
  std::memset(rank->staging, 0, ranks * sizeof(int32_t));
  for (int place = 0; place < kVerdictPlaces; place++) {
    uint8_t *set = rank->window + rank->layout.abort_records + verdictOffset(place) + offsetof(VerdictHead, set);
    MOE_A2A_TRY(cudaMemcpy2DAsync(set, kAbortRecordBytes, rank->staging, sizeof(int32_t), sizeof(int32_t), ranks,
                                  cudaMemcpyHostToDevice, rank->side));
  }
  MOE_A2A_TRY(copyToDevice(*rank, rank->window + rank->layout.control + kAlarmWord, rank->staging, sizeof(int32_t)));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  return MOE_A2A_OK;
}

int32_t moe_a2a_raise_generation(moe_a2a_rank *rank, int32_t generation, uint64_t active_mask) {
  using namespace moe_a2a;
  MOE_A2A_ON_DEVICE(rank->options.device);
  std::memcpy(rank->staging, &generation, sizeof(generation));
  for (int r = 0; r < rank->config.ep_size; r++) {
    if (r != rank->options.rank && (active_mask >> r & 1)) continue;
    auto *word = reinterpret_cast<void *>(rank->windows[r] + rank->layout.control + kGenerationWord);
    MOE_A2A_TRY(copyToDevice(*rank, word, rank->staging, sizeof(generation)));
  }
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  return MOE_A2A_OK;
}

int32_t moe_a2a_tell_failed_reset(moe_a2a_rank *rank, const moe_a2a_failure *failure, int32_t generation, uint64_t mask,
                                  const uint32_t *next_rounds) {
  using namespace moe_a2a;
  if (!failure || failure->struct_size != sizeof(*failure)) return invalid("struct_size is wrong");
  MOE_A2A_ON_DEVICE(rank->options.device);
  auto *verdict = reinterpret_cast<FoundVerdict *>(rank->staging);
  auto *one = reinterpret_cast<int32_t *>(rank->staging + sizeof(FoundVerdict));
  *verdict = {};
  verdict->head.generation = generation;
  for (int l = 0; l < rank->config.rounds_in_flight; l++) {
    verdict->head.completed[l] = phaseNumber(next_rounds[l] - 1, MOE_A2A_COMBINE);
  }
  verdict->finding.code = failure->code;
  verdict->finding.foundBy = rank->options.rank;
  verdict->finding.phase = failure->phase;
  verdict->finding.round = failure->round;
  verdict->finding.kind = failure->kind;
  verdict->finding.missingMask = failure->missing_mask;
  *one = 1;
  for (int r = 0; r < rank->config.ep_size; r++) {
    if (r == rank->options.rank || !(mask >> r & 1)) continue;
    uint8_t *window = reinterpret_cast<uint8_t *>(rank->windows[r]);
    uint8_t *record = window + rank->layout.abort_records +
                      static_cast<uint64_t>(rank->options.rank) * kAbortRecordBytes + verdictOffset(kFound);
    MOE_A2A_TRY(copyToDevice(*rank, record, verdict, sizeof(*verdict)));
    MOE_A2A_TRY(copyToDevice(*rank, record + offsetof(VerdictHead, set), one, sizeof(*one)));
    MOE_A2A_TRY(copyToDevice(*rank, window + rank->layout.control + kAlarmWord, one, sizeof(*one)));
  }
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  return MOE_A2A_OK;
}

int32_t moe_a2a_start_generation(moe_a2a_rank *rank, int32_t generation, uint64_t active_mask,
                                 const uint32_t *next_rounds) {
  using namespace moe_a2a;
  MOE_A2A_ON_DEVICE(rank->options.device);
  for (int l = 0; l < rank->config.rounds_in_flight; l++) {
    if (const int32_t result = startLane(*rank, l, next_rounds[l])) return result;
  }
  RankState state{};
  state.generation = generation;
  state.active = active_mask;
  constexpr size_t head = offsetof(RankState, windows);
  std::memcpy(rank->staging, &state, head);
  MOE_A2A_TRY(copyToDevice(*rank, rank->own + rank->layout.state, rank->staging, head));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  __atomic_store_n(&rank->host->failed, 0, __ATOMIC_RELEASE);
  rank->generation = generation;
  rank->active = active_mask;
  rank->aborted = false;
  rank->abortReason.clear();
  return MOE_A2A_OK;
}

}  // extern "C"
