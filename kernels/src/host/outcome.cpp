// What became of a phase, read from the rank's state.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>

#include "rank.hpp"

namespace moe_a2a {
namespace {

void describe(const Finding &finding, moe_a2a_failure &failure) {
  failure.code = finding.code;
  failure.found_by = finding.foundBy;
  failure.phase = finding.phase;
  failure.lane = finding.lane;
  failure.round = finding.round;
  failure.kind = finding.kind;
  failure.field = finding.field;
  failure.missing_mask = finding.missingMask;
  failure.rank = finding.rank;
  failure.token = finding.token;
  failure.k = finding.k;
  failure.id = finding.id;
  failure.value = finding.value;
  failure.limit = finding.limit;
  failure.values_mask = finding.valuesMask;
  failure.values_per_rank = finding.valuesPerRank;
  std::memcpy(failure.values, finding.values, sizeof(failure.values));
}

void describeAbort(int by, const char *text, int32_t bytes, moe_a2a_failure &failure) {
  failure.code = MOE_A2A_FAIL_ABORTED;
  failure.found_by = by;
  failure.rank = by;
  failure.text_bytes = bytes;
  std::memcpy(failure.text, text, static_cast<size_t>(bytes));
}

// The rank's first failure: found by its kernels, told by a peer, or its own abort.
int32_t readFailure(moe_a2a_rank &rank, moe_a2a_failure &failure) {
  if (rank.aborted) {
    describeAbort(rank.options.rank, rank.abortReason.data(), static_cast<int32_t>(rank.abortReason.size()), failure);
    return MOE_A2A_OK;
  }
  const auto *state = reinterpret_cast<const RankState *>(rank.staging);
  const auto start = std::chrono::steady_clock::now();
  do {
    MOE_A2A_TRY(copyToHost(rank, rank.staging, rank.own + rank.layout.state, sizeof(RankState)));
    MOE_A2A_TRY(cudaStreamSynchronize(rank.side));
    // The other lane's kernel may be about to describe it.
  } while (state->failed == kFailureClaimed && std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
  if (!state->failed) return MOE_A2A_OK;
  if (state->byAbort) {
    const AbortVerdict &abort = state->abort;
    describeAbort(abort.rank, abort.text, std::min<int32_t>(std::max(abort.textBytes, 0), MOE_A2A_TEXT_BYTES), failure);
  } else {
    describe(state->finding, failure);
  }
  return MOE_A2A_OK;
}

}  // namespace
}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_outcome(moe_a2a_rank *rank, int32_t lane, int32_t phase, uint32_t round,
                        moe_a2a_phase_outcome *outcome) {
  using namespace moe_a2a;
  if (!outcome || outcome->struct_size != sizeof(*outcome)) return invalid("struct_size is wrong");
  if (lane < 0 || lane >= rank->config.rounds_in_flight) return invalid("lane is out of range");
  *outcome = {};
  outcome->struct_size = sizeof(*outcome);
  outcome->failure.struct_size = sizeof(outcome->failure);
  outcome->report.struct_size = sizeof(outcome->report);
  MOE_A2A_ON_DEVICE(rank->options.device);
  MOE_A2A_TRY(copyToHost(*rank, rank->staging, rank->own + laneStateAt(*rank, lane), sizeof(LaneState)));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  LaneState state;
  std::memcpy(&state, rank->staging, sizeof(state));
  outcome->completed = static_cast<int32_t>(state.completed - phaseNumber(round, phase)) >= 0;
  const Report &report = state.reports[round % kReports];
  if (outcome->completed && report.known && report.round == round) {
    moe_a2a_report &r = outcome->report;
    r.known = 1;
    r.num_local_tokens = report.numTokens;
    r.tokens_sent = report.tokensSent;
    r.tokens_received = report.tokensReceived;
    r.dropped_padding = report.dropped[kDroppedPadding];
    r.dropped_invalid = report.dropped[kDroppedInvalid];
    r.dropped_inactive = report.dropped[kDroppedInactive];
    std::memcpy(r.wait_ns, report.waitNs, sizeof(r.wait_ns));
    r.wait_ns[rank->options.rank] = 0;
  }
  if (outcome->completed) return MOE_A2A_OK;
  return readFailure(*rank, outcome->failure);
}

int32_t moe_a2a_has_failed(const moe_a2a_rank *rank) {
  return rank->aborted || __atomic_load_n(&rank->host->failed, __ATOMIC_ACQUIRE) != 0;
}

}  // extern "C"
