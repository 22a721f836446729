// Kernels on the CPU: each thread of a block is a fiber, and one scheduler runs them in an order that a seed decides.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace emulation {

constexpr int kWarp = 32;
constexpr size_t kSharedBytes = 96 << 10;

struct Block;
struct Kernel;

enum class Meeting { kNone, kShuffle, kBallot, kAll, kAny, kReduceAdd, kReduceOr, kReduceMax, kMatch, kSyncWarp };

// What a thread may know of itself.
struct Thread {
  void *context = nullptr;
  uint8_t *stack = nullptr;
  Block *block = nullptr;
  int index = 0;
  bool isDone = false;
};

// Lanes that meet. Two turns of values, as a lane may be one meeting ahead of others that have yet to read.
struct Warp {
  Meeting meeting = Meeting::kNone;
  int arrived = 0;
  int live = 0;
  uint32_t turn = 0;
  uint64_t values[2][kWarp];
  uint32_t synced = 0;  // times that the warp has met by __syncwarp(), which orders memory
};

// A store that other blocks need not see yet.
struct Pending {
  uint8_t *at;
  uint8_t bytes;
  uint8_t data[16];
  int thread;
  uint32_t barrier;  // the block's and the warp's, when it was made
  uint32_t synced;
};

struct Block {
  Kernel *kernel = nullptr;
  uint3 index{};
  dim3 size{};
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<int> ready;
  std::vector<int> awaitTurn;  // threads that wait for the kernels before
  std::vector<Pending> pending;
  std::vector<uint8_t> shared;
  int live = 0;
  int atBarrier = 0;
  uint32_t barrier = 0;
  int orSum[2] = {0, 0}, andSum[2] = {0, 0};
  bool hasTriggered = false;  // launch_dependents
};

struct Kernel {
  const char *name = "";
  std::function<void()> body;
  dim3 grid{}, size{};
  int cost = 1;  // of a block, in units of which an SM has kUnitsPerSm
  bool isProgrammatic = false;
  unsigned issued = 0, done = 0, triggered = 0;
  std::function<bool()> isFirst;  // all before it in its stream is complete

  unsigned blocks() const { return grid.x * grid.y * grid.z; }
};

// The thread that runs now.
Thread &self();
// Another may go on. Called where memory that others use is accessed.
void maybeYield();
void yield();
uint64_t meet(Meeting meeting, uint64_t value, const std::function<uint64_t(const uint64_t *, int lane)> &result);
void barrier();
int barrierOr(int value);
int barrierAnd(int value);
void waitForEarlier();
void triggerNext();
uint64_t now();  // virtual nanoseconds
void *sharedMemory(size_t bytes);

// Accesses to memory outside of a block. Stores may be seen late, and in any order, unless a fence of their own thread,
// or of one that met it at a barrier since, comes between.
void load(void *to, const void *from, size_t bytes);
void store(void *to, const void *from, size_t bytes);
void fence();
// Before memory is changed at once.
void settle(const void *at, size_t bytes);

// What ends a run: a mistake of a kernel.
[[noreturn]] void report(const std::string &what);

// The scheduler's side.
std::mt19937_64 &chance();
Block *makeBlock(Kernel &kernel, uint3 index);
// Runs threads of a block for a while; true if the block is done, and all that it has stored is seen.
bool runBlock(Block &block, int resumes);
void freeBlock(Block *block);
void flushAll(Block &block);
// Lets the threads go on that wait for the kernels before, if those are done.
void wakeInTurn(Block &block);
void settleIn(Block &block, const void *at, size_t bytes);
inline bool canGoOn(const Block &block) { return !block.ready.empty() || block.live == 0; }
std::string stuckThreads(const Block &block);
void note();         // something has changed, so time goes slowly
void advanceTime();  // a step is over

}  // namespace emulation
