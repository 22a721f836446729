#include "waiter.hpp"

#include <sys/prctl.h>

#include <chrono>

namespace moe_a2a_addon {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// Rounds take some 10 to 50 µs where all ranks are there: that long it pays to spin.
constexpr microseconds kSpin{20};
constexpr microseconds kShortSleep{30};
constexpr microseconds kLongSleep{200};
constexpr microseconds kPatience{20'000};

}  // namespace

Napi::Value TaskResult::toJs(Napi::Env env) const {
  if (result >= 0) return env.Undefined();
  if (problem.empty()) return toException(env, error).Value();
  Napi::Error exception = Napi::Error::New(env, problem);
  exception.Set("missingMask", Napi::BigInt::New(env, missingMask));
  exception.Set("missingKind", Napi::Number::New(env, missingKind));
  return exception.Value();
}

Waiter::Waiter(Napi::Env env) : env_(env) {
  napi_value name;
  napi_create_string_utf8(env, "moe-a2a", NAPI_AUTO_LENGTH, &name);
  const napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                                             &Waiter::onSignal, &signal_);
  if (status != napi_ok) throw Napi::Error::New(env, "a threadsafe function cannot be made");
  napi_unref_threadsafe_function(env, signal_);
}

Waiter::~Waiter() { shutDown(); }

void Waiter::listen(Napi::Function listener) { listener_ = Napi::Persistent(listener); }

uint32_t Waiter::begin() {
  if (pending_++ == 0 && signal_) napi_ref_threadsafe_function(env_, signal_);
  const uint32_t token = nextToken_++;
  if (nextToken_ == 0) nextToken_ = 1;
  return token;
}

uint32_t Waiter::waitFor(int32_t device, uint64_t event, std::function<void()> atEnd) {
  const uint32_t token = begin();
  {
    const std::lock_guard lock(mutex_);
    incoming_.push_back({token, device, event, std::move(atEnd)});
  }
  if (!poller_.joinable()) poller_ = std::thread([this] { poll(); });
  wake_.notify_one();
  return token;
}

void Waiter::cancel(uint32_t token) {
  const std::lock_guard lock(mutex_);
  cancelled_.insert(token);
  wake_.notify_one();
}

uint32_t Waiter::run(std::function<TaskResult()> task, std::function<void()> after) {
  reapTasks();
  const uint32_t token = begin();
  auto over = std::make_shared<std::atomic<bool>>(false);
  std::thread thread([this, token, over, task = std::move(task), after = std::move(after)]() mutable {
    finish(token, task(), std::move(after));
    over->store(true);
  });
  tasks_.push_back({std::move(thread), std::move(over)});
  return token;
}

void Waiter::reapTasks() {
  std::erase_if(tasks_, [](Task &task) {
    if (!task.over->load()) return false;
    task.thread.join();
    return true;
  });
}

void Waiter::finish(uint32_t token, TaskResult result, std::function<void()> after) {
  Done done{token, std::move(result), std::move(after)};
  const std::lock_guard lock(mutex_);
  done_.push_back(std::move(done));
  if (signalled_ || stopping_) return;
  signalled_ = true;
  napi_call_threadsafe_function(signal_, nullptr, napi_tsfn_nonblocking);
}

// One thread looks after all events: spinning at first, sleeping when nothing has happened for a while.
void Waiter::poll() {
  // Sleeps of 30 µs would otherwise take twice as long.
  prctl(PR_SET_TIMERSLACK, 1000);
  std::vector<Wait> waits;
  auto lastChange = Clock::now();
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !incoming_.empty() || !waits.empty(); });
      if (stopping_) {
        unfinished_ = std::move(waits);
        return;
      }
      if (!incoming_.empty()) lastChange = Clock::now();
      for (Wait &wait : incoming_) waits.push_back(std::move(wait));
      incoming_.clear();
      if (!cancelled_.empty()) {
        for (Wait &wait : waits) {
          if (!cancelled_.contains(wait.token)) continue;
          wait.event = 0;
        }
        cancelled_.clear();
      }
    }
    const size_t before = waits.size();
    std::erase_if(waits, [this](Wait &wait) {
      const int32_t result = wait.event == 0 ? MOE_A2A_OK : moe_a2a_event_query(wait.device, wait.event);
      if (result == MOE_A2A_PENDING) return false;
      if (wait.atEnd) wait.atEnd();
      finish(wait.token, result, {});
      return true;
    });
    const auto now = Clock::now();
    if (waits.size() != before) lastChange = now;
    if (waits.empty() || now - lastChange < kSpin) continue;
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, now - lastChange < kPatience ? kShortSleep : kLongSleep,
                   [this] { return stopping_ || !incoming_.empty() || !cancelled_.empty(); });
  }
}

void Waiter::onSignal(napi_env env, napi_value, void *context, void *) {
  if (env != nullptr) static_cast<Waiter *>(context)->deliver(Napi::Env(env));
}

void Waiter::deliver(Napi::Env env) {
  Napi::HandleScope scope(env);
  std::vector<Done> done;
  {
    const std::lock_guard lock(mutex_);
    signalled_ = false;
    done.swap(done_);
  }
  for (Done &item : done) {
    if (--pending_ == 0) napi_unref_threadsafe_function(env, signal_);
    if (item.after) item.after();
    if (listener_.IsEmpty()) continue;
    try {
      listener_.Call({Napi::Number::New(env, item.token), item.result.toJs(env)});
    } catch (const Napi::Error &) {
      // The environment is ending and runs no more JavaScript.
    }
  }
}

void Waiter::shutDown() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (poller_.joinable()) poller_.join();
  for (Task &task : tasks_) task.thread.join();
  tasks_.clear();
  if (signal_) napi_release_threadsafe_function(signal_, napi_tsfn_abort);
  signal_ = nullptr;
}

void Waiter::endWaits() {
  for (auto *waits : {&unfinished_, &incoming_}) {
    for (Wait &wait : *waits) {
      if (wait.atEnd) wait.atEnd();
    }
    waits->clear();
  }
}

}  // namespace moe_a2a_addon
