// Streams, events, waiting and graphs.
#include "addon.hpp"

#include <unistd.h>

#include <chrono>

namespace moe_a2a_addon {

Napi::Value Addon::CreateStream(const Napi::CallbackInfo &info) {
  uint64_t stream;
  check(info.Env(), moe_a2a_stream_create(int32(info, 0), &stream));
  return fromHandle(info.Env(), stream);
}

Napi::Value Addon::DestroyStream(const Napi::CallbackInfo &info) {
  check(info.Env(), moe_a2a_stream_destroy(int32(info, 0), handle(info, 1)));
  return info.Env().Undefined();
}

// The device's stream for what waits for no peer, shared by the whole process.
Napi::Value Addon::SharedStream(const Napi::CallbackInfo &info) {
  uint64_t stream;
  check(info.Env(), CopyStreams::instance().of(int32(info, 0), &stream));
  return fromHandle(info.Env(), stream);
}

Napi::Value Addon::IsCapturing(const Napi::CallbackInfo &info) {
  uint64_t capture = 0;
  check(info.Env(), moe_a2a_stream_capturing(int32(info, 0), handle(info, 1), &capture));
  return Napi::Boolean::New(info.Env(), capture != 0);
}

Napi::Value Addon::TakeEvent(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  uint64_t event;
  check(info.Env(), EventPool::instance().take(device, &event));
  events_.emplace(event, device);
  return fromHandle(info.Env(), event);
}

Napi::Value Addon::GiveEvent(const Napi::CallbackInfo &info) {
  const auto found = events_.find(handle(info, 1));
  if (found == events_.end()) return info.Env().Undefined();
  EventPool::instance().give(found->second, found->first);
  events_.erase(found);
  return info.Env().Undefined();
}

// Events, captures and graphs of this environment that have not been given back, ended or destroyed, for tests.
Napi::Value Addon::HeldHandles(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<double>(events_.size() + captures_.size() + graphs_.size()));
}

Napi::Value Addon::RecordEvent(const Napi::CallbackInfo &info) {
  check(info.Env(), moe_a2a_event_record(int32(info, 0), handle(info, 1), handle(info, 2)));
  return info.Env().Undefined();
}

// An event that keeps the time, of the process's pool; recordEvent records it.
Napi::Value Addon::CreateTimer(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  uint64_t event;
  check(info.Env(), EventPool::timers().take(device, &event));
  timers_.emplace(event, device);
  return fromHandle(info.Env(), event);
}

Napi::Value Addon::DestroyTimer(const Napi::CallbackInfo &info) {
  const auto found = timers_.find(handle(info, 1));
  if (found == timers_.end()) return info.Env().Undefined();
  EventPool::timers().give(found->second, found->first);
  timers_.erase(found);
  return info.Env().Undefined();
}

// Those of this environment, for tests.
Napi::Value Addon::HeldTimers(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<double>(timers_.size()));
}

// Milliseconds between two timers that have passed.
Napi::Value Addon::Elapsed(const Napi::CallbackInfo &info) {
  float milliseconds = 0;
  check(info.Env(), moe_a2a_event_elapsed(int32(info, 0), handle(info, 1), handle(info, 2), &milliseconds));
  return Napi::Number::New(info.Env(), milliseconds);
}

Napi::Value Addon::StreamWait(const Napi::CallbackInfo &info) {
  check(info.Env(), moe_a2a_event_wait(int32(info, 0), handle(info, 1), handle(info, 2)));
  return info.Env().Undefined();
}

Napi::Value Addon::WaitFor(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), waiter_.waitFor(int32(info, 0), handle(info, 1)));
}

Napi::Value Addon::Cancel(const Napi::CallbackInfo &info) {
  waiter_.cancel(uint32(info, 0));
  return info.Env().Undefined();
}

// Blocks the thread until the event has passed, at most so many microseconds; whether it has.
Napi::Value Addon::PollEvent(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  const uint64_t event = handle(info, 1);
  const auto limit = std::chrono::microseconds(integer(info, 2, 0, 1'000'000));
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    const int32_t result = moe_a2a_event_query(device, event);
    check(info.Env(), result);
    if (result != MOE_A2A_PENDING) return Napi::Boolean::New(info.Env(), true);
    const auto waited = std::chrono::steady_clock::now() - start;
    if (waited >= limit) return Napi::Boolean::New(info.Env(), false);
    if (waited > std::chrono::microseconds(200)) usleep(20);
  }
}

Napi::Value Addon::BeginCapture(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  const uint64_t stream = handle(info, 1);
  uint64_t capture;
  check(info.Env(), moe_a2a_capture_begin(device, stream, &capture));
  captures_.emplace(stream, device);
  return fromHandle(info.Env(), capture);
}

Napi::Value Addon::EndCapture(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  const uint64_t stream = handle(info, 1);
  captures_.erase(stream);
  uint64_t graph;
  check(info.Env(), moe_a2a_capture_end(device, stream, &graph));
  graphs_.emplace(graph, device);
  return fromHandle(info.Env(), graph);
}

Napi::Value Addon::DestroyGraph(const Napi::CallbackInfo &info) {
  const auto found = graphs_.find(handle(info, 1));
  if (found == graphs_.end()) return info.Env().Undefined();
  const auto [graph, device] = *found;
  graphs_.erase(found);
  check(info.Env(), moe_a2a_graph_destroy(device, graph));
  return info.Env().Undefined();
}

}  // namespace moe_a2a_addon
