// Waiting for one environment (thread of JavaScript): for events on one thread, for calls that block on threads of
// their own.
#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "arguments.hpp"
#include "moe_a2a.h"

namespace moe_a2a_addon {

// What a task came to: a result of the library and what that says of it, or ranks that were waited for in vain.
struct TaskResult {
  // Of the calling thread's last call, which is asked at once.
  TaskResult(int32_t result) : result(result) {
    if (result < 0) error = lastError(result);
  }
  // Of a CUDA call of the addon's own.
  explicit TaskResult(const moe_a2a_error &error) : result(error.result), error(error) {}
  TaskResult(std::string problem, uint64_t missingMask, int32_t missingKind)
      : result(MOE_A2A_INVALID), problem(std::move(problem)), missingMask(missingMask), missingKind(missingKind) {}

  // An exception, or undefined where all went well.
  Napi::Value toJs(Napi::Env env) const;

  int32_t result;
  moe_a2a_error error{};
  std::string problem;
  uint64_t missingMask = 0;
  int32_t missingKind = 0;  // enum moe_a2a_missing_kind
};

/*
 * Everything asynchronous has a token; when it is over, the listener is called on the environment's thread with the
 * token and an error or undefined. What is pending keeps the process alive.
 */
class Waiter {
 public:
  explicit Waiter(Napi::Env env);
  ~Waiter();

  void listen(Napi::Function listener);
  // `atEnd` runs on the waiting thread once the event has passed or the query failed.
  uint32_t waitFor(int32_t device, uint64_t event, std::function<void()> atEnd = {});
  // Ends a wait for an event at once, as if it had passed.
  void cancel(uint32_t token);
  // Runs `task` on a thread of its own; then `after` on the environment's thread.
  uint32_t run(std::function<TaskResult()> task, std::function<void()> after = {});
  // Joins all threads; nothing is told any more. The environment ends.
  void shutDown();
  // After shutDown(), and after whatever is waited for: runs what waits have to do at their end.
  void endWaits();

 private:
  struct Wait {
    uint32_t token;
    int32_t device;
    uint64_t event;
    std::function<void()> atEnd;
  };
  struct Done {
    uint32_t token;
    TaskResult result;
    std::function<void()> after;
  };
  struct Task {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> over;
  };

  uint32_t begin();
  void finish(uint32_t token, TaskResult result, std::function<void()> after);
  void poll();
  void deliver(Napi::Env env);
  void reapTasks();
  static void onSignal(napi_env env, napi_value, void *context, void *);

  napi_env env_;
  napi_threadsafe_function signal_ = nullptr;
  Napi::FunctionReference listener_;
  uint32_t nextToken_ = 1;
  uint32_t pending_ = 0;
  std::thread poller_;
  std::vector<Task> tasks_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool signalled_ = false;
  std::vector<Wait> incoming_;
  // Left over when the poller ends.
  std::vector<Wait> unfinished_;
  std::unordered_set<uint32_t> cancelled_;
  std::vector<Done> done_;
};

}  // namespace moe_a2a_addon
