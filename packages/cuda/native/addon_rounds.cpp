// Phases of a rank, what became of them, and how it starts anew.
#include "addon.hpp"

#include <algorithm>

namespace moe_a2a_addon {

Napi::Value Addon::Dispatch(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const int lane = laneOf(info, 1, rank);
  if (rank.blocks[lane] == nullptr) throw Napi::Error::New(info.Env(), "the lane is not bound");
  return Napi::Number::New(info.Env(), rank.dispatch(lane));
}

Napi::Value Addon::Combine(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const int lane = laneOf(info, 1, rank);
  if (rank.blocks[lane] == nullptr) throw Napi::Error::New(info.Env(), "the lane is not bound");
  return Napi::Number::New(info.Env(), rank.combine(lane));
}

/*
 * Writes [completed, known, numLocalTokens, sent, received, padding, invalid, inactive, waitNs…] into a Float64Array;
 * returns the failure, where there is one.
 */
Napi::Value Addon::Outcome(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const int lane = laneOf(info, 1, rank);
  const auto phase = static_cast<int32_t>(integer(info, 2, MOE_A2A_DISPATCH, MOE_A2A_COMBINE));
  const uint32_t round = uint32(info, 3);
  const auto values = doubleArray(info, 4, 8 + MOE_A2A_MAX_RANKS);
  // Several KB, which the stack of a deep call may not have.
  if (!outcome_) outcome_ = std::make_unique<moe_a2a_phase_outcome>();
  *outcome_ = {};
  outcome_->struct_size = sizeof(moe_a2a_phase_outcome);
  check(info.Env(), moe_a2a_outcome(rank.handle(), lane, phase, round, outcome_.get()));
  const moe_a2a_report &report = outcome_->report;
  const double head[] = {static_cast<double>(outcome_->completed),     static_cast<double>(report.known),
                         static_cast<double>(report.num_local_tokens), static_cast<double>(report.tokens_sent),
                         static_cast<double>(report.tokens_received),  static_cast<double>(report.dropped_padding),
                         static_cast<double>(report.dropped_invalid),  static_cast<double>(report.dropped_inactive)};
  std::copy(std::begin(head), std::end(head), values.data);
  for (int r = 0; r < MOE_A2A_MAX_RANKS; r++) values.data[8 + r] = static_cast<double>(report.wait_ns[r]);
  if (outcome_->failure.code == MOE_A2A_NO_FAILURE) return info.Env().Undefined();
  return describe(info.Env(), outcome_->failure);
}

Napi::Object Addon::describe(Napi::Env env, const moe_a2a_failure &failure) {
  Napi::Object result = Napi::Object::New(env);
  result["code"] = failure.code;
  result["foundBy"] = failure.found_by;
  result["phase"] = failure.phase;
  result["lane"] = failure.lane;
  result["round"] = failure.round;
  result["kind"] = failure.kind;
  result["field"] = failure.field;
  result["missingMask"] = Napi::BigInt::New(env, failure.missing_mask);
  result["rank"] = failure.rank;
  result["token"] = failure.token;
  result["k"] = failure.k;
  result["id"] = failure.id;
  result["value"] = failure.value;
  result["limit"] = failure.limit;
  result["valuesMask"] = Napi::BigInt::New(env, failure.values_mask);
  result["valuesPerRank"] = failure.values_per_rank;
  const int perRank = std::clamp(failure.values_per_rank, 0, MOE_A2A_MAX_PAYLOADS);
  auto values = Napi::Int32Array::New(env, static_cast<size_t>(perRank) * MOE_A2A_MAX_RANKS);
  std::copy_n(failure.values, values.ElementLength(), values.Data());
  result["values"] = values;
  const int bytes = std::clamp(failure.text_bytes, 0, MOE_A2A_TEXT_BYTES);
  result["text"] = Napi::String::New(env, failure.text, static_cast<size_t>(bytes));
  return result;
}

Napi::Value Addon::HasFailed(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), moe_a2a_has_failed(openRankOf(info).handle()) != 0);
}

Napi::Value Addon::Abort(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const std::string reason = text(info, 1);
  check(info.Env(), moe_a2a_abort(rank.handle(), reason.data(), static_cast<int32_t>(reason.size())));
  return info.Env().Undefined();
}

Napi::Value Addon::Stop(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  rank.stopsReplays = true;
  check(info.Env(), moe_a2a_stop(rank.handle(), info[1].ToBoolean().Value()));
  return info.Env().Undefined();
}

Napi::Value Addon::MarkGone(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  check(info.Env(), moe_a2a_mark_gone(rank.handle(), int32(info, 1), int32(info, 2)));
  return info.Env().Undefined();
}

// (rank, graph, stream, times, event)
Napi::Value Addon::Replay(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const auto times = static_cast<int32_t>(integer(info, 3, 1, INT32_MAX));
  rank.stopsReplays = false;
  check(info.Env(), rank.replay(handle(info, 1), handle(info, 2), times, handle(info, 4)));
  return info.Env().Undefined();
}

// On a thread of its own: a launch waits where the device's queue is full.
Napi::Value Addon::ReplaySlowly(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const uint64_t graph = handle(info, 1), stream = handle(info, 2), event = handle(info, 4);
  const auto times = static_cast<int32_t>(integer(info, 3, 1, INT32_MAX));
  rank.stopsReplays = false;
  launching_.insert(stream);
  const auto launch = [&rank, graph, stream, times, event]() -> TaskResult {
    return rank.replay(graph, stream, times, event);
  };
  return Napi::Number::New(info.Env(),
                           waiter_.run(launch, [this, stream] { launching_.erase(launching_.find(stream)); }));
}

// Whether replays are being enqueued on a stream by another thread.
Napi::Value Addon::IsLaunching(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), launching_.count(handle(info, 0)) > 0);
}

Napi::Value Addon::Drain(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  return Occupy(rank, [&rank] { return moe_a2a_drain(rank.handle()); });
}

Napi::Value Addon::Clean(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  check(info.Env(), moe_a2a_clean(rank.handle(), uint32Array(info, 1, MOE_A2A_MAX_LANES).data));
  return info.Env().Undefined();
}

Napi::Value Addon::RaiseGeneration(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  check(info.Env(), moe_a2a_raise_generation(rank.handle(), int32(info, 1), handle(info, 2)));
  return info.Env().Undefined();
}

// (rank, missing kind, missing ranks, generation, ranks to tell, next rounds)
Napi::Value Addon::TellFailedReset(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  auto failure = std::make_unique<moe_a2a_failure>();
  failure->struct_size = sizeof(moe_a2a_failure);
  failure->code = MOE_A2A_FAIL_MISSING;
  failure->phase = MOE_A2A_RESET;
  failure->kind = int32(info, 1);
  failure->missing_mask = handle(info, 2);
  const uint32_t *nextRounds = uint32Array(info, 5, MOE_A2A_MAX_LANES).data;
  check(info.Env(),
        moe_a2a_tell_failed_reset(rank.handle(), failure.get(), int32(info, 3), handle(info, 4), nextRounds));
  return info.Env().Undefined();
}

Napi::Value Addon::StartGeneration(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const uint32_t *nextRounds = uint32Array(info, 3, MOE_A2A_MAX_LANES).data;
  check(info.Env(), moe_a2a_start_generation(rank.handle(), int32(info, 1), handle(info, 2), nextRounds));
  return info.Env().Undefined();
}

}  // namespace moe_a2a_addon
