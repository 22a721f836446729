// Measures what a host's GPUs can do at most, for figures to be held against: stores and loads from all GPUs to all
// others at once, a flag going back and forth between two, launches. Prints JSON. No multicast: it is not to be used
// there.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr int kMaxGpus = 16;
constexpr size_t kBytes = 64u << 20;
constexpr size_t kWords = kBytes / sizeof(uint4);
constexpr int kRepeats = 8;
constexpr int kThreads = 512;
constexpr int kTurns = 2000;
constexpr uint64_t kDeadlineNs = 2'000'000'000;

void check(cudaError_t error, const char *call) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(error));
  std::exit(1);
}
#define CHECK(call) check(call, #call)

struct Peers {
  uint4 *memory[kMaxGpus];
  int count;
};

/** One load from this GPU's memory, one store to each peer. */
__global__ void storeToPeers(const uint4 *source, Peers peers, size_t words, int turns) {
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  for (int turn = 0; turn < turns; turn++) {
    for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words; i += stride) {
      const uint4 value = source[i];
      for (int p = 0; p < peers.count; p++) peers.memory[p][i] = value;
    }
  }
}

/** One load from each peer; the sum is kept so that no load is left out. */
__global__ void loadFromPeers(uint4 *sink, Peers peers, size_t words, int turns) {
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  uint4 sum{};
  for (int turn = 0; turn < turns; turn++) {
    for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words; i += stride) {
      for (int p = 0; p < peers.count; p++) {
        // Volatile at this width does not exist; the asm keeps the compiler from hoisting it out of the turns.
        uint4 value;
        asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                     : "l"(peers.memory[p] + i));
        sum.x ^= value.x, sum.y ^= value.y, sum.z ^= value.z, sum.w ^= value.w;
      }
    }
  }
  if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x9e3779b9u) sink[threadIdx.x] = sum;
}

__device__ uint64_t now() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}

/** Answers each value that arrives in `own` by storing it to `other`; the one that leads raises it. */
__global__ void pingPong(uint32_t *own, uint32_t *other, bool leads, int turns, uint64_t *took) {
  const uint64_t start = now();
  for (uint32_t turn = 1; turn <= static_cast<uint32_t>(turns); turn++) {
    if (leads) asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(other), "r"(turn) : "memory");
    uint32_t seen;
    do {
      asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(seen) : "l"(own) : "memory");
      if (now() - start > kDeadlineNs) {
        *took = 0;
        return;
      }
    } while (seen < turn);
    if (!leads) asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(other), "r"(turn) : "memory");
  }
  *took = now() - start;
}

__global__ void nothing() {}

struct Gpu {
  uint4 *source;
  std::vector<uint4 *> inbox;
  uint32_t *flag;
  uint64_t *took;
  cudaStream_t stream;
  cudaEvent_t start, end;
  cudaDeviceProp properties;
};

std::vector<Gpu> gpus;

/** GB/s of the slowest GPU, all of them at work at once: the best of several tries. */
template <typename Launch>
double together(double bytesPerGpu, Launch launch) {
  double best = 0;
  for (int attempt = 0; attempt < 4; attempt++) {
    for (size_t g = 0; g < gpus.size(); g++) {
      CHECK(cudaSetDevice(static_cast<int>(g)));
      CHECK(cudaEventRecord(gpus[g].start, gpus[g].stream));
      launch(static_cast<int>(g));
      CHECK(cudaGetLastError());
      CHECK(cudaEventRecord(gpus[g].end, gpus[g].stream));
    }
    float slowest = 0;
    for (size_t g = 0; g < gpus.size(); g++) {
      CHECK(cudaSetDevice(static_cast<int>(g)));
      CHECK(cudaEventSynchronize(gpus[g].end));
      float ms = 0;
      CHECK(cudaEventElapsedTime(&ms, gpus[g].start, gpus[g].end));
      slowest = std::max(slowest, ms);
    }
    best = std::max(best, bytesPerGpu / slowest / 1e6);
  }
  return best;
}

/** Memory that GPU `g` writes to (`inbox`) or reads from (`source`) on its peers; its own where it is alone. */
Peers peersOf(int g, bool sources) {
  Peers peers{};
  const int count = static_cast<int>(gpus.size());
  for (int step = 1; step < std::max(count, 2); step++) {
    const int peer = (g + step) % count;
    peers.memory[peers.count++] = sources ? gpus[peer].source : gpus[peer].inbox[g];
  }
  return peers;
}

/** Nanoseconds of one turn to the other GPU and back; 0 where it timed out. */
double roundTrip() {
  const int other = gpus.size() > 1 ? 1 : 0;
  for (int g : {0, other}) CHECK(cudaMemset(gpus[g].flag, 0, 256));
  CHECK(cudaDeviceSynchronize());
  // Two flags a cache line apart, so that one GPU can play both sides.
  uint32_t *const first = gpus[0].flag;
  uint32_t *const second = gpus[other].flag + 32;
  CHECK(cudaSetDevice(other));
  cudaStream_t answering;
  CHECK(cudaStreamCreateWithFlags(&answering, cudaStreamNonBlocking));
  pingPong<<<1, 1, 0, answering>>>(second, first, false, kTurns, gpus[other].took + 1);
  CHECK(cudaSetDevice(0));
  pingPong<<<1, 1, 0, gpus[0].stream>>>(first, second, true, kTurns, gpus[0].took);
  CHECK(cudaStreamSynchronize(gpus[0].stream));
  CHECK(cudaStreamSynchronize(answering));
  uint64_t took = 0;
  CHECK(cudaMemcpy(&took, gpus[0].took, sizeof took, cudaMemcpyDeviceToHost));
  return static_cast<double>(took) / kTurns;
}

struct LaunchCost {
  double host, device;
};

LaunchCost launchCost() {
  CHECK(cudaSetDevice(0));
  Gpu &gpu = gpus[0];
  constexpr int kLaunches = 2000;
  for (int i = 0; i < 100; i++) nothing<<<1, 32, 0, gpu.stream>>>();
  CHECK(cudaStreamSynchronize(gpu.stream));
  CHECK(cudaEventRecord(gpu.start, gpu.stream));
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kLaunches; i++) nothing<<<1, 32, 0, gpu.stream>>>();
  const std::chrono::duration<double, std::micro> host = std::chrono::steady_clock::now() - start;
  CHECK(cudaEventRecord(gpu.end, gpu.stream));
  CHECK(cudaEventSynchronize(gpu.end));
  float ms = 0;
  CHECK(cudaEventElapsedTime(&ms, gpu.start, gpu.end));
  return {host.count() / kLaunches, ms * 1e3 / kLaunches};
}

void setUp(int count) {
  gpus.resize(count);
  for (int g = 0; g < count; g++) {
    CHECK(cudaSetDevice(g));
    Gpu &gpu = gpus[g];
    CHECK(cudaGetDeviceProperties(&gpu.properties, g));
    CHECK(cudaMalloc(&gpu.source, kBytes));
    CHECK(cudaMemset(gpu.source, 0x35 + g, kBytes));
    gpu.inbox.resize(count);
    for (int from = 0; from < count; from++) CHECK(cudaMalloc(&gpu.inbox[from], kBytes));
    CHECK(cudaMalloc(&gpu.flag, 256));
    CHECK(cudaMalloc(&gpu.took, 2 * sizeof(uint64_t)));
    CHECK(cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&gpu.start));
    CHECK(cudaEventCreate(&gpu.end));
    for (int peer = 0; peer < count; peer++) {
      if (peer == g) continue;
      int can = 0;
      CHECK(cudaDeviceCanAccessPeer(&can, g, peer));
      if (!can) {
        std::fprintf(stderr, "GPU %d cannot access GPU %d\n", g, peer);
        std::exit(1);
      }
      CHECK(cudaDeviceEnablePeerAccess(peer, 0));
    }
    CHECK(cudaDeviceSynchronize());
  }
}

// Limits of what goes from one GPU to another. One GPU has none.
void printBetweenGpus(int sms) {
  const double bytes = double{kBytes} * kRepeats * peersOf(0, false).count;
  double bestStore = 0, bestLoad = 0;
  std::printf(", \"store\": {");
  for (int blocks : {16, 32, sms, 2 * sms}) {
    const double rate = together(bytes, [&](int g) {
      storeToPeers<<<blocks, kThreads, 0, gpus[g].stream>>>(gpus[g].source, peersOf(g, false), kWords, kRepeats);
    });
    bestStore = std::max(bestStore, rate);
    std::printf("%s\"%d\": %.1f", blocks == 16 ? "" : ", ", blocks, rate);
  }
  std::printf("}, \"load\": {");
  for (int blocks : {32, 64, sms, 2 * sms}) {
    const double rate = together(bytes, [&](int g) {
      loadFromPeers<<<blocks, kThreads, 0, gpus[g].stream>>>(gpus[g].inbox[g], peersOf(g, true), kWords, kRepeats);
    });
    bestLoad = std::max(bestLoad, rate);
    std::printf("%s\"%d\": %.1f", blocks == 32 ? "" : ", ", blocks, rate);
  }
  std::printf("}, \"storeGBs\": %.1f, \"loadGBs\": %.1f, \"pingPongNs\": %.0f", bestStore, bestLoad, roundTrip());
}

}  // namespace

int main() {
  int count = 0;
  CHECK(cudaGetDeviceCount(&count));
  setUp(std::min(count, kMaxGpus));
  const int sms = gpus[0].properties.multiProcessorCount;
  std::printf("{\"gpus\": %zu, \"name\": \"%s\", \"sms\": %d", gpus.size(), gpus[0].properties.name, sms);
  if (gpus.size() > 1) printBetweenGpus(sms);
  const double copy = together(2.0 * kBytes * kRepeats, [&](int g) {
    Peers own{};
    own.memory[own.count++] = gpus[g].inbox[g];
    storeToPeers<<<4 * sms, kThreads, 0, gpus[g].stream>>>(gpus[g].source, own, kWords, kRepeats);
  });
  const LaunchCost launch = launchCost();
  std::printf(", \"localCopyGBs\": %.1f, \"launchHostUs\": %.2f, \"launchDeviceUs\": %.2f}\n", copy, launch.host,
              launch.device);
  return 0;
}
