// Ranks: made, opened, connected, closed.
#include "addon.hpp"

#include <algorithm>

namespace moe_a2a_addon {

Napi::Value Addon::MakeRank(const Napi::CallbackInfo &info) {
  auto rank = std::make_unique<Rank>();
  rank->config = readConfig(info, 0);
  const auto [v, count] = uint32Array(info, 1, 6);
  const auto word = [v](size_t i) { return static_cast<int32_t>(v[i]); };
  rank->options = {sizeof(moe_a2a_rank_options),
                   word(0),
                   word(1),
                   v[2],
                   word(3),
                   word(4),
                   word(5),
                   count > 6 ? word(6) : MOE_A2A_NOT_SHAREABLE,
                   count > 7 ? word(7) : MOE_A2A_WIRE_CHOSEN,
                   count > 8 ? word(8) : 0};
  rank->key = text(info, 2);
  const uint32_t id = nextRank_++;
  ranks_.emplace(id, std::move(rank));
  return Napi::Number::New(info.Env(), id);
}

Napi::Value Addon::OpenRank(const Napi::CallbackInfo &info) {
  Rank &rank = rankOf(info);
  if (rank.handle() != nullptr || rank.busy) throw Napi::Error::New(info.Env(), "the rank is open already");
  return Occupy(rank, [&rank] { return rank.open(); });
}

Napi::Value Addon::ConnectRank(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const size_t ranks = rank.config.ep_size;
  const uint64_t *windows = handleArray(info, 1, ranks).data;
  const int32_t *devices = int32Array(info, 2, ranks).data;
  return Occupy(
      rank, [&rank, windows = std::vector(windows, windows + ranks), devices = std::vector(devices, devices + ranks)] {
        return rank.connect(windows.data(), devices.data());
      });
}

Napi::Value Addon::CloseRank(const Napi::CallbackInfo &info) {
  const uint32_t id = uint32(info, 0);
  Rank &rank = rankOf(info);
  if (rank.busy) throw Napi::Error::New(info.Env(), "the rank is busy");
  const bool announce = info[1].ToBoolean().Value();
  rank.busy = true;
  const uint32_t token = waiter_.run([&rank, announce] { return rank.close(announce); },
                                     [this, &rank, id] {
                                       giveDeferred(rank);
                                       ranks_.erase(id);
                                     });
  return Napi::Number::New(info.Env(), token);
}

// Window, private memory; then by lane its stream, its dispatches' events and its combines'.
Napi::Value Addon::Addresses(const Napi::CallbackInfo &info) {
  const Rank &rank = openRankOf(info);
  std::vector<uint64_t> values(2);
  uint64_t bytes;
  check(info.Env(), moe_a2a_rank_window(rank.handle(), &values[0], &bytes));
  check(info.Env(), moe_a2a_rank_private(rank.handle(), &values[1], &bytes));
  for (int lane = 0; lane < rank.config.rounds_in_flight; lane++) {
    values.push_back(rank.laneStream(lane));
    for (const int phase : {MOE_A2A_DISPATCH, MOE_A2A_COMBINE}) {
      uint64_t events[MOE_A2A_PHASE_EVENTS];
      check(info.Env(), moe_a2a_phase_events(rank.handle(), lane, phase, events));
      values.insert(values.end(), std::begin(events), std::end(events));
    }
  }
  auto result = Napi::BigUint64Array::New(info.Env(), values.size());
  std::copy(values.begin(), values.end(), result.Data());
  return result;
}

Napi::Value Addon::BindLane(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const int lane = laneOf(info, 1, rank);
  if (!info[2].IsArrayBuffer()) typeError(info.Env(), 2, "an ArrayBuffer");
  auto block = info[2].As<Napi::ArrayBuffer>();
  if (block.ByteLength() < LaneBlock::kBytes) typeError(info.Env(), 2, "of 512 bytes");
  rank.blocks[lane] = static_cast<uint8_t *>(block.Data());
  rank.blockRefs[lane] = Napi::Persistent(block);
  return info.Env().Undefined();
}

Napi::Value Addon::SetDelays(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  const uint32_t *v = uint32Array(info, 1, 8).data;
  const moe_a2a_delays delays{sizeof(moe_a2a_delays), {v[0], v[1]}, {v[2], v[3]}, {v[4], v[5]}, {v[6], v[7]}};
  check(info.Env(), moe_a2a_set_delays(rank.handle(), &delays));
  return info.Env().Undefined();
}

}  // namespace moe_a2a_addon
