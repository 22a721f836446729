// Emulated GPUs: streams of work in order, blocks that take their places on SMs, and the one scheduler of all.
#pragma once

#include <cuda_runtime_api.h>

#include <deque>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "simt.hpp"

namespace emulation {

constexpr int kUnitsPerSm = 6;

struct Event {
  uint64_t asked = 0;  // records that were enqueued
  uint64_t passed = 0;
  uint64_t at = 0;  // virtual nanoseconds
};

// One thing that a stream does: a kernel, or what the host does at once when its turn has come.
struct Work {
  std::unique_ptr<Kernel> kernel;
  std::function<bool()> action;  // false: not yet
};

struct Stream {
  int device = 0;
  bool isCapturing = false;
  unsigned long long capture = 0;  // the last one's number
  std::deque<std::unique_ptr<Work>> works;
  std::vector<std::function<std::unique_ptr<Work>()>> captured;
};

int deviceCount();
int smCount();
// The calling host thread's.
int &currentDevice();

// Holds the devices still for a call of the host, ahead of their own next steps.
class HostCall {
 public:
  HostCall();
  ~HostCall();
  HostCall(const HostCall &) = delete;
  HostCall &operator=(const HostCall &) = delete;
};

Stream *makeStream(int device);
void freeStream(Stream *stream);
// Puts work into the stream, or into the graph that it captures.
void enqueue(Stream *stream, std::function<std::unique_ptr<Work>()> make);
// Lets the devices work until `isDone`.
void runUntil(const std::function<bool()> &isDone, const char *what);
// Lets them work a little.
void runSlice();

// Puts a kernel into a stream, or into the graph that it captures.
void enqueueKernel(const char *name, std::function<void()> body, dim3 grid, dim3 block, int cost, bool isProgrammatic,
                   cudaStream_t stream);

// How a kernel is called whose address the host hands over, and how many units of an SM its blocks take.
struct Callable {
  const char *name;
  std::function<std::function<void()>(void **arguments)> bind;
  int cost;
};
void registerKernel(const void *address, Callable callable);
const Callable *findKernel(const void *address);

template <typename... Arguments, size_t... I>
std::function<void()> bindTo(void (*kernel)(Arguments...), void **arguments, std::index_sequence<I...>) {
  const std::tuple<Arguments...> kept(*static_cast<Arguments *>(arguments[I])...);
  return [kernel, kept] { std::apply(kernel, kept); };
}

// Makes a kernel known by what it takes.
template <typename... Arguments>
void makeKnown(const char *name, void (*kernel)(Arguments...), int cost) {
  const auto bind = [kernel](void **arguments) -> std::function<void()> {
    return bindTo(kernel, arguments, std::index_sequence_for<Arguments...>());
  };
  registerKernel(reinterpret_cast<const void *>(kernel), {name, bind, cost});
}

// What kernel<<<grid, block, 0, stream>>>(values...) means.
template <typename... Arguments, typename... Values>
void launch(const char *name, void (*kernel)(Arguments...), dim3 grid, dim3 block, cudaStream_t stream,
            Values... values) {
  const std::tuple<Arguments...> kept(values...);
  enqueueKernel(
      name, [kernel, kept] { std::apply(kernel, kept); }, grid, block, 1, false, stream);
}

}  // namespace emulation
