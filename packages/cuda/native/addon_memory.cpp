// Tensors, and copies between them and the host.
#include "addon.hpp"

#include <cstring>

namespace moe_a2a_addon {

Napi::Value Addon::Allocate(const Napi::CallbackInfo &info) {
  uint64_t address = 0;
  check(info.Env(), DevicePool::instance().take(int32(info, 0), bytes(info, 1), &address));
  tensors_.insert(address);
  return fromHandle(info.Env(), address);
}

// Gives a tensor's memory back, after what the rank has enqueued where it is still there.
Napi::Value Addon::Release(const Napi::CallbackInfo &info) {
  const uint64_t address = handle(info, 1);
  if (tensors_.erase(address) == 0) return info.Env().Undefined();
  const auto found = ranks_.find(uint32(info, 0));
  Rank *rank = found == ranks_.end() ? nullptr : found->second.get();
  if (rank != nullptr && rank->busy) rank->deferred.push_back(address);
  else if (rank != nullptr && rank->isOpen()) rank->release(address);
  else DevicePool::instance().give(address);
  return info.Env().Undefined();
}

Napi::Value Addon::HeldBytes(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<double>(DevicePool::instance().heldBytes(int32(info, 0))));
}

// (rank, address, bytes or their number, events, eventCount, streams, streamCount)
uint32_t Addon::Enqueue(const Napi::CallbackInfo &info, bool toDevice, Copy &copy) {
  Rank &rank = openRankOf(info);
  const uint64_t address = handle(info, 1);
  const uint8_t *source = nullptr;
  if (toDevice) {
    const auto given = byteArray(info, 2);
    source = given.data;
    copy.bytes = given.length;
  } else copy.bytes = bytes(info, 2);
  if (copy.bytes == 0 || copy.bytes > StagingPool::kLarge) typeError(info.Env(), 2, "of 1 byte to 4 MiB");
  const auto events = static_cast<size_t>(integer(info, 4, 0, 64));
  const uint64_t *eventHandles = handleArray(info, 3, events).data;
  const auto streams = static_cast<size_t>(integer(info, 6, 0, 64));
  const uint64_t *streamHandles = handleArray(info, 5, streams).data;
  copy.device = rank.options.device;
  check(info.Env(), StagingPool::instance().take(copy.bytes, &copy.staged));
  if (source != nullptr) std::memcpy(copy.staged, source, copy.bytes);
  const Rank::After after{eventHandles, events, streamHandles, streams};
  const int32_t result = rank.copy(toDevice, address, copy.staged, copy.bytes, after, &copy.event, &copy.queue);
  if (result < 0) {
    const moe_a2a_error error = lastError(result);
    StagingPool::instance().give(copy.bytes, copy.staged);
    throw toException(info.Env(), error);
  }
  const Copy made = copy;
  return waiter_.waitFor(copy.device, copy.event, [made, toDevice, queues = rank.copyQueues] {
    if (made.queue) queues->leave(made.device, made.queue);
    EventPool::instance().give(made.device, made.event);
    if (toDevice) StagingPool::instance().give(made.bytes, made.staged);
  });
}

Napi::Value Addon::Upload(const Napi::CallbackInfo &info) {
  Copy copy{};
  return Napi::Number::New(info.Env(), Enqueue(info, true, copy));
}

Napi::Value Addon::Download(const Napi::CallbackInfo &info) {
  Copy copy{};
  const uint32_t token = Enqueue(info, false, copy);
  downloads_[token] = copy;
  return Napi::Number::New(info.Env(), token);
}

// Takes what a download brought, once its token was told; without a target it is dropped.
Napi::Value Addon::Collect(const Napi::CallbackInfo &info) {
  const auto found = downloads_.find(uint32(info, 0));
  if (found == downloads_.end()) throw Napi::Error::New(info.Env(), "there is no such download");
  const Copy copy = found->second;
  if (!info[1].IsUndefined()) {
    const auto target = byteArray(info, 1);
    if (target.length != copy.bytes) typeError(info.Env(), 1, "as long as the download");
    std::memcpy(target.data, copy.staged, copy.bytes);
  }
  downloads_.erase(found);
  StagingPool::instance().give(copy.bytes, copy.staged);
  return info.Env().Undefined();
}

}  // namespace moe_a2a_addon
