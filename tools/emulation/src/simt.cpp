#include "simt.hpp"

#include <boost/context/detail/fcontext.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulation {
namespace {

namespace fcontext = boost::context::detail;

constexpr size_t kStackBytes = 48 << 10;
// Steps in which nothing was stored, after which time runs: all wait for what only the clock can bring.
constexpr uint64_t kQuietSteps = 3'000'000;
constexpr size_t kMostPending = 512;

std::vector<uint8_t *> idleStacks;
Thread *running = nullptr;
fcontext::fcontext_t scheduler;
uint64_t nanoseconds = 1'000'000'000, quiet = 0;

// One in how many steps lets a store be seen, where nothing else does.
uint64_t laziness() {
  static const uint64_t steps = uint64_t{4} << (chance()() % 4 * 2);
  return steps;
}

uint8_t *takeStack() {
  if (idleStacks.empty()) return static_cast<uint8_t *>(std::malloc(kStackBytes));
  uint8_t *stack = idleStacks.back();
  idleStacks.pop_back();
  return stack;
}

void leave() {
  const fcontext::transfer_t back = fcontext::jump_fcontext(scheduler, nullptr);
  scheduler = back.fctx;
}

void start(fcontext::transfer_t from) {
  scheduler = from.fctx;
  Thread &thread = *static_cast<Thread *>(from.data);
  thread.block->kernel->body();
  thread.isDone = true;
  leave();
  std::abort();
}

// Not ready any more until somebody says so.
void park() { leave(); }

void wake(Block &block, int thread) { block.ready.push_back(thread); }

Warp &warpOf(Thread &thread) { return thread.block->warps[thread.index / kWarp]; }

bool overlap(const Pending &entry, const uint8_t *at, size_t bytes) {
  return entry.at < at + bytes && at < entry.at + entry.bytes;
}

// Lets a store be seen, and with it all older ones where it has the place of one of them.
void flush(Block &block, size_t i) {
  size_t first = i;
  for (size_t j = 0; j < i && first == i; j++) {
    if (overlap(block.pending[j], block.pending[i].at, block.pending[i].bytes)) first = 0;
  }
  for (size_t j = first; j <= i; j++) std::memcpy(block.pending[j].at, block.pending[j].data, block.pending[j].bytes);
  block.pending.erase(block.pending.begin() + static_cast<long>(first),
                      block.pending.begin() + static_cast<long>(i + 1));
  note();
}

void openBarrier(Block &block) {
  block.atBarrier = 0;
  block.barrier++;
  const int next = (block.barrier + 1) % 2;
  block.orSum[next] = 0;
  block.andSum[next] = 0;
  for (Thread &thread : block.threads) {
    if (!thread.isDone) wake(block, thread.index);
  }
}

}  // namespace

Thread &self() { return *running; }

std::mt19937_64 &chance() {
  static std::mt19937_64 random(
      std::getenv("EMULATION_SEED") ? std::strtoull(std::getenv("EMULATION_SEED"), nullptr, 10) : 1);
  return random;
}

void report(const std::string &what) {
  std::fprintf(stderr, "emulation: %s\n", what.c_str());
  if (running) {
    const Thread &t = *running;
    std::fprintf(stderr, "  in %s, block %u, thread %d\n", t.block->kernel->name, t.block->index.x, t.index);
  }
  std::fflush(stderr);
  std::abort();
}

void note() { quiet = 0; }

void advanceTime() {
  nanoseconds += 20;
  if (++quiet > kQuietSteps) nanoseconds += 50'000;
}

uint64_t now() {
  // Where devices work alone, other clocks tell how long.
  static const bool isReal = std::getenv("EMULATION_ALONE") != nullptr;
  if (!isReal) return nanoseconds++;
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

void yield() {
  Thread &thread = self();
  wake(*thread.block, thread.index);
  leave();
}

void maybeYield() {
  if (chance()() % 4 == 0) yield();
}

uint64_t meet(Meeting meeting, uint64_t value, const std::function<uint64_t(const uint64_t *, int lane)> &result) {
  Thread &thread = self();
  Warp &warp = warpOf(thread);
  if (warp.arrived == 0) warp.meeting = meeting;
  if (warp.meeting != meeting) report("lanes of a warp meet at different places");
  if (warp.live != kWarp) report("a lane waits for others that have left");
  const uint32_t turn = warp.turn % 2;
  const int lane = thread.index % kWarp;
  warp.values[turn][lane] = value;
  if (++warp.arrived < kWarp) {
    park();
  } else {
    warp.arrived = 0;
    warp.turn++;
    if (meeting == Meeting::kSyncWarp) warp.synced++;
    const int first = thread.index - lane;
    for (int i = first; i < first + kWarp; i++) {
      if (i != thread.index) wake(*thread.block, i);
    }
  }
  return result ? result(warp.values[turn], lane) : 0;
}

static void arrive(int orValue, int andValue) {
  Block &block = *self().block;
  const int turn = (block.barrier + 1) % 2;
  block.orSum[turn] |= orValue;
  block.andSum[turn] += andValue != 0;
  if (++block.atBarrier == block.live) openBarrier(block);
  park();
}
void barrier() { arrive(0, 0); }
int barrierOr(int value) {
  arrive(value != 0, 0);
  Block &block = *self().block;
  return block.orSum[block.barrier % 2];
}
int barrierAnd(int value) {
  arrive(0, value);
  Block &block = *self().block;
  return block.andSum[block.barrier % 2] == block.live;
}

void waitForEarlier() {
  Block &block = *self().block;
  if (!block.kernel->isProgrammatic || block.kernel->isFirst()) return;
  block.awaitTurn.push_back(self().index);
  park();
}
void wakeInTurn(Block &block) {
  if (block.awaitTurn.empty() || !block.kernel->isFirst()) return;
  for (const int thread : block.awaitTurn) wake(block, thread);
  block.awaitTurn.clear();
}
void triggerNext() {
  Block &block = *self().block;
  if (!block.hasTriggered) block.kernel->triggered++;
  block.hasTriggered = true;
}

void *sharedMemory(size_t bytes) {
  if (bytes > kSharedBytes) report("too much shared memory");
  return self().block->shared.data();
}

void settleIn(Block &block, const void *at, size_t bytes) {
  for (size_t i = block.pending.size(); i-- > 0;) {
    if (!overlap(block.pending[i], static_cast<const uint8_t *>(at), bytes)) continue;
    // The youngest takes all older ones of its place along.
    flush(block, i);
    i = block.pending.size() < i ? block.pending.size() : i;
  }
}
void settle(const void *at, size_t bytes) { settleIn(*self().block, at, bytes); }

void load(void *to, const void *from, size_t bytes) {
  maybeYield();
  settle(from, bytes);
  std::memcpy(to, from, bytes);
}

void store(void *to, const void *from, size_t bytes) {
  maybeYield();
  Block &block = *self().block;
  Pending entry{static_cast<uint8_t *>(to), static_cast<uint8_t>(bytes), {}, self().index, block.barrier,
                warpOf(self()).synced};
  std::memcpy(entry.data, from, bytes);
  block.pending.push_back(entry);
  if (block.pending.size() > kMostPending) flush(block, chance()() % block.pending.size());
}

void fence() {
  maybeYield();
  Thread &thread = self();
  Block &block = *thread.block;
  const Warp &warp = warpOf(thread);
  // In order of age, so that nothing older is left behind.
  std::vector<Pending> rest;
  for (const Pending &entry : block.pending) {
    const bool isOwn = entry.thread == thread.index, isBeforeBarrier = entry.barrier != block.barrier,
               isBeforeSync = entry.thread / kWarp == thread.index / kWarp && entry.synced != warp.synced;
    if (isOwn || isBeforeBarrier || isBeforeSync) std::memcpy(entry.at, entry.data, entry.bytes);
    else rest.push_back(entry);
  }
  block.pending = std::move(rest);
  note();
}

void flushAll(Block &block) {
  for (const Pending &entry : block.pending) std::memcpy(entry.at, entry.data, entry.bytes);
  block.pending.clear();
}

Block *makeBlock(Kernel &kernel, uint3 index) {
  auto *block = new Block;
  block->kernel = &kernel;
  block->index = index;
  block->size = kernel.size;
  block->live = static_cast<int>(kernel.size.x * kernel.size.y * kernel.size.z);
  block->threads.resize(static_cast<size_t>(block->live));
  block->warps.resize(static_cast<size_t>(block->live + kWarp - 1) / kWarp);
  block->shared.resize(kSharedBytes);
  // Nobody may rely on what lies there.
  std::memset(block->shared.data(), static_cast<int>(chance()()), kSharedBytes);
  for (int i = 0; i < block->live; i++) {
    Thread &thread = block->threads[static_cast<size_t>(i)];
    thread.block = block;
    thread.index = i;
    thread.stack = takeStack();
    thread.context = fcontext::make_fcontext(thread.stack + kStackBytes, kStackBytes, start);
    block->warps[static_cast<size_t>(i / kWarp)].live++;
    block->ready.push_back(i);
  }
  return block;
}

void freeBlock(Block *block) {
  flushAll(*block);
  if (!block->hasTriggered) block->kernel->triggered++;
  for (Thread &thread : block->threads) idleStacks.push_back(thread.stack);
  delete block;
}

bool runBlock(Block &block, int resumes) {
  // What its threads have stored may be on the way for a while after they have left.
  if (block.live == 0) {
    note();
    const size_t left = block.pending.size(), some = left > 8 ? left / 4 : chance()() % 8 == 0;
    for (size_t i = 0; i < some && !block.pending.empty(); i++) flush(block, chance()() % block.pending.size());
    advanceTime();
  }
  for (int i = 0; i < resumes && !block.ready.empty(); i++) {
    const size_t pick = chance()() % block.ready.size();
    Thread &thread = block.threads[static_cast<size_t>(block.ready[pick])];
    block.ready[pick] = block.ready.back();
    block.ready.pop_back();
    running = &thread;
    const fcontext::transfer_t back = fcontext::jump_fcontext(thread.context, &thread);
    thread.context = back.fctx;
    running = nullptr;
    if (thread.isDone) {
      block.live--;
      Warp &warp = block.warps[static_cast<size_t>(thread.index / kWarp)];
      warp.live--;
      if (warp.arrived > 0) report(std::string("lanes of a warp wait for one that has left, in ") + block.kernel->name);
      if (block.live > 0 && block.atBarrier == block.live) openBarrier(block);
    }
    if (!block.pending.empty() && chance()() % laziness() == 0) flush(block, chance()() % block.pending.size());
    advanceTime();
  }
  return block.live == 0 && block.pending.empty();
}

std::string stuckThreads(const Block &block) {
  return std::string(block.kernel->name) + " block " + std::to_string(block.index.x) + ": " +
         std::to_string(block.atBarrier) + " of " + std::to_string(block.live) + " at a barrier, " +
         std::to_string(block.ready.size()) + " ready";
}

}  // namespace emulation
