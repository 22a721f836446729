// Windows of ranks in other processes.
#include <algorithm>
#include <cstring>

#include "addon.hpp"

namespace moe_a2a_addon {

// Starts to listen; returns the name and the token that the other ranks have to be told.
Napi::Value Addon::OpenShare(const Napi::CallbackInfo &info) {
  Rank &rank = openRankOf(info);
  if (rank.options.shareable == MOE_A2A_NOT_SHAREABLE || !rank.windows.empty())
    throw Napi::Error::New(info.Env(), "the rank is not shareable, or has shared its window");
  auto exchange = std::make_unique<FdExchange>();
  if (const int error = exchange->open(); error != 0)
    throw Napi::Error::New(info.Env(), std::string("no socket can be made: ") + std::strerror(error));
  auto token = Napi::Uint8Array::New(info.Env(), exchange->token().size());
  std::copy(exchange->token().begin(), exchange->token().end(), token.Data());
  Napi::Object result = Napi::Object::New(info.Env());
  result["name"] = exchange->name();
  result["token"] = token;
  rank.exchange = std::move(exchange);
  return result;
}

// (rank, names, tokens, timeoutMs)
Napi::Value Addon::ShareWindows(const Napi::CallbackInfo &info) {
  // Names first: reading them may run JavaScript, which may close ranks.
  if (!info[1].IsArray()) typeError(info.Env(), 1, "an array");
  const auto names = info[1].As<Napi::Array>();
  std::vector<FdExchange::Peer> peers(std::min<uint32_t>(names.Length(), MOE_A2A_MAX_RANKS));
  for (uint32_t r = 0; r < peers.size(); r++) {
    const Napi::Value name = names[r];
    if (name.IsString()) peers[r].name = name.As<Napi::String>().Utf8Value();
    if (!isShareName(peers[r].name)) typeError(info.Env(), 1, "names that openShare() returned");
  }
  Rank &rank = openRankOf(info);
  if (peers.size() != static_cast<size_t>(rank.config.ep_size)) typeError(info.Env(), 1, "a name of each rank");
  const auto tokens = byteArray(info, 2);
  if (tokens.length != peers.size() * sizeof(ShareToken)) typeError(info.Env(), 2, "32 bytes of each rank");
  for (size_t r = 0; r < peers.size(); r++)
    std::memcpy(peers[r].token.data(), tokens.data + r * sizeof(ShareToken), sizeof(ShareToken));
  const std::chrono::milliseconds timeout(integer(info, 3, 1, INT32_MAX));
  if (rank.exchange == nullptr || !rank.exchange->isOpen())
    throw Napi::Error::New(info.Env(), "openShare() comes first");
  return Occupy(rank, [&rank, peers = std::move(peers), timeout] { return rank.shareWindows(peers, timeout); });
}

Napi::Value Addon::StopShare(const Napi::CallbackInfo &info) {
  rankOf(info).stopShare();
  return info.Env().Undefined();
}

// Masks of the ranks in other processes that have closed, and of those that are lost.
Napi::Value Addon::LookForPeers(const Napi::CallbackInfo &info) {
  Rank &rank = rankOf(info);
  // While a thread of its own works on the rank, nobody waits for peers.
  if (rank.isOpen()) rank.lines.look();
  auto result = Napi::BigUint64Array::New(info.Env(), 2);
  result.Data()[0] = rank.isOpen() ? rank.lines.closed() : 0;
  result.Data()[1] = rank.isOpen() ? rank.lines.lost() : 0;
  return result;
}

// Window addresses of all ranks in this process, after shareWindows().
Napi::Value Addon::SharedWindows(const Napi::CallbackInfo &info) {
  const Rank &rank = openRankOf(info);
  if (rank.windows.empty()) throw Napi::Error::New(info.Env(), "no windows were shared");
  auto result = Napi::BigUint64Array::New(info.Env(), rank.windows.size());
  std::copy(rank.windows.begin(), rank.windows.end(), result.Data());
  return result;
}

}  // namespace moe_a2a_addon
