#include "device.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace emulation {
namespace {

int numberFrom(const char *name, int otherwise) {
  const char *value = std::getenv(name);
  return value ? std::atoi(value) : otherwise;
}

std::recursive_mutex devicesLock;
std::atomic<int> waitingCalls{0};

bool step();

// Some steps of the devices, unless a call of the host waits for its turn; true where anything happened. `isDone` is
// asked in between.
bool workAWhile(const std::function<bool()> &isDone) {
  while (waitingCalls > 0) std::this_thread::yield();
  const std::lock_guard<std::recursive_mutex> lock(devicesLock);
  bool moved = false;
  for (int i = 0; i < 32 && !isDone(); i++) moved |= step();
  return moved;
}

struct Resident {
  Block *block;
  int device;
};

std::set<Stream *> streams;
std::vector<Resident> residents;
std::vector<int> unitsUsed(64, 0);
// Filled before main().
std::map<const void *, Callable> &kernels() {
  static std::map<const void *, Callable> known;
  return known;
}
// How long the host waits for devices that do nothing.
constexpr int kPatienceSeconds = 120;

// Kernels of others, which come and go, and hold part of a device's SMs meanwhile, or all of them.
class Others {
 public:
  int unitsOn(int device) {
    static const bool areThere = std::getenv("EMULATION_OCCUPIED") != nullptr;
    if (!areThere) return 0;
    Stay &stay = stays_[static_cast<size_t>(device)];
    if (stay.turns == 0 && chance()() % 64 == 0) {
      const int all = smCount() * kUnitsPerSm;
      stay.turns = static_cast<int>(chance()() % 1500);
      stay.units = chance()() % 2 == 0 ? all : static_cast<int>(chance()() % static_cast<uint64_t>(all));
    }
    if (stay.turns == 0) return 0;
    stay.turns--;
    return stay.units;
  }

 private:
  struct Stay {
    int turns, units;
  };
  std::vector<Stay> stays_ = std::vector<Stay>(64);
} others;

// Starts blocks of a kernel as there is room, in any order of kernels, as a GPU may.
void issue(Kernel &kernel, int device) {
  const int taken = others.unitsOn(device), room = smCount() * kUnitsPerSm - taken;
  // They leave in the end, so no time limit may pass for their sake.
  if (taken > 0 && kernel.issued < kernel.blocks()) note();
  while (kernel.issued < kernel.blocks() && unitsUsed[device] + kernel.cost <= room) {
    if (chance()() % 4 == 0) return;
    const unsigned n = kernel.issued++;
    const uint3 index{n % kernel.grid.x, n / kernel.grid.x % kernel.grid.y, n / kernel.grid.x / kernel.grid.y};
    residents.push_back({makeBlock(kernel, index), device});
    unitsUsed[device] += kernel.cost;
  }
}

bool isOver(const Kernel &kernel) { return kernel.done == kernel.blocks(); }

// Moves a stream on; true where anything happened.
bool advance(Stream &stream) {
  bool moved = false;
  while (!stream.works.empty()) {
    Work &work = *stream.works.front();
    if (work.kernel ? !isOver(*work.kernel) : !work.action()) break;
    stream.works.pop_front();
    moved = true;
    note();
  }
  for (size_t i = 0; i < stream.works.size(); i++) {
    Work &work = *stream.works[i];
    if (!work.kernel) break;
    if (i > 0 && !work.kernel->isProgrammatic) break;
    issue(*work.kernel, stream.device);
    if (work.kernel->triggered < work.kernel->blocks()) break;
  }
  return moved;
}

// What streams wait for, and where blocks are.
std::string situation() {
  std::string text;
  for (const Stream *stream : streams) {
    if (stream->works.empty()) continue;
    const Work &first = *stream->works.front();
    text += "\n  a stream of device " + std::to_string(stream->device) + " has " +
            std::to_string(stream->works.size()) + " things to do, first " +
            (first.kernel ? first.kernel->name : "to wait for another stream");
    if (first.kernel) {
      text += ": " + std::to_string(first.kernel->issued) + " of " + std::to_string(first.kernel->blocks()) +
              " blocks have begun, " + std::to_string(first.kernel->done) + " are done";
    }
  }
  for (const Resident &resident : residents) text += "\n  " + stuckThreads(*resident.block);
  return text;
}

bool step() {
  bool moved = false;
  for (Stream *stream : streams) moved |= advance(*stream);
  if (residents.empty()) return moved;
  for (int tries = 0; tries < 8; tries++) {
    const size_t pick = chance()() % residents.size();
    const Resident resident = residents[pick];
    wakeInTurn(*resident.block);
    if (!canGoOn(*resident.block)) continue;
    Kernel &kernel = *resident.block->kernel;
    if (runBlock(*resident.block, 1 + static_cast<int>(chance()() % 3000))) {
      freeBlock(resident.block);
      residents[pick] = residents.back();
      residents.pop_back();
      unitsUsed[resident.device] -= kernel.cost;
      kernel.done++;
    }
    return true;
  }
  for (const Resident &resident : residents) {
    wakeInTurn(*resident.block);
    if (canGoOn(*resident.block)) return true;
  }
  report("no thread can go on" + situation());
}

// Devices work also while no host thread waits for them.
void workAlone() {
  std::thread([] {
    int idle = 0;
    while (true) {
      const bool moved = workAWhile([] { return false; });
      if (moved) {
        idle = 0;
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        if (++idle == 100000) {
          const HostCall call;
          std::fprintf(stderr, "emulation: idle%s\n", situation().c_str());
        }
      }
    }
  }).detach();
}

}  // namespace

int deviceCount() {
  static const int count = numberFrom("EMULATION_DEVICES", 4);
  return count;
}
int smCount() {
  static const int count = numberFrom("EMULATION_SMS", 4);
  return count;
}
int &currentDevice() {
  thread_local int device = 0;
  return device;
}

HostCall::HostCall() {
  waitingCalls++;
  devicesLock.lock();
  waitingCalls--;
}
HostCall::~HostCall() { devicesLock.unlock(); }

Stream *makeStream(int device) {
  static std::once_flag once;
  if (std::getenv("EMULATION_ALONE")) std::call_once(once, workAlone);
  auto *stream = new Stream;
  stream->device = device;
  streams.insert(stream);
  return stream;
}

void freeStream(Stream *stream) {
  runUntil([&] { return stream->works.empty(); }, "cudaStreamDestroy");
  const HostCall call;
  streams.erase(stream);
  delete stream;
}

void enqueue(Stream *stream, std::function<std::unique_ptr<Work>()> make) {
  if (stream->isCapturing) {
    stream->captured.push_back(std::move(make));
    return;
  }
  stream->works.push_back(make());
  Work *work = stream->works.back().get();
  if (work->kernel) work->kernel->isFirst = [stream, work] { return stream->works.front().get() == work; };
}

void runSlice() { step(); }

void runUntil(const std::function<bool()> &isDone, const char *what) {
  auto last = std::chrono::steady_clock::now();
  bool done = false;
  while (true) {
    const bool moved = workAWhile([&] { return done = isDone(); });
    if (done) return;
    if (moved) last = std::chrono::steady_clock::now();
    if (std::chrono::steady_clock::now() - last > std::chrono::seconds(kPatienceSeconds))
      report(std::string(what) + " waits in vain");
    std::this_thread::yield();
  }
}

void registerKernel(const void *address, Callable callable) { kernels().emplace(address, std::move(callable)); }
const Callable *findKernel(const void *address) {
  const auto found = kernels().find(address);
  return found == kernels().end() ? nullptr : &found->second;
}

}  // namespace emulation
