// Windows between processes: they are mapped, rounds go through them, and whoever mapped one goes on when its owner is
// killed. CUDA IPC does not promise the last, so for that it is only told.
#include <functional>

#include "shared_rank.cuh"

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Capacity that makes a window of some 60 MiB.
constexpr int kLargeCapacity = 40000;
constexpr uint64_t kMiB = 1 << 20;

uint64_t freeBytes(int device) {
  uint64_t free = 0, total = 0;
  CHECK_A2A(moe_a2a_memory(device, &free, &total));
  return free;
}

bool isSoon(const std::function<bool()> &holds) {
  const auto limit = Clock::now() + milliseconds(3000);
  while (!holds()) {
    if (Clock::now() > limit) return false;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return true;
}

// Where the two processes of a test run.
struct Placement {
  const char *name;
  int device = 0, peersDevice = 0;
  // What each sees; "": what this process sees.
  std::string gpus, peersGpus;
  bool isSameGpu = false;
};

// Places in a window that no phase touches here.
struct Places {
  uint64_t written, importers, owners, stop, ownersStop;
  explicit Places(const moe_a2a_layout &layout)
      : written(layout.lanes[0].recv),
        importers(written + kMiB),
        owners(written + 2 * kMiB),
        stop(written + 3 * kMiB),
        ownersStop(written + 4 * kMiB) {}
};

std::vector<uint32_t> patternOf() {
  std::vector<uint32_t> pattern(kPumpWords);
  for (int i = 0; i < kPumpWords; i++) pattern[i] = 0x9e3779b9u * (i + 1);
  return pattern;
}

std::vector<uint32_t> wordsAt(uint64_t address, cudaStream_t stream) {
  std::vector<uint32_t> words(kPumpWords);
  download(words.data(), address, kPumpWords * 4, stream);
  return words;
}

int runOwner(int shareable, int device) {
  CHECK_CUDA(cudaSetDevice(device));
  const OwnRank own(configOf(kLargeCapacity, 5000), 1, device, 1, shareable);
  const Places places(own.layout);
  const std::vector<uint32_t> pattern = patternOf();
  Pump pump;
  upload(own.window + places.written, pattern.data(), kPumpWords * 4, pump.side);
  pump.start(own.window + places.owners, own.window + places.ownersStop, 30);
  own.give(kParentSocket);
  // Until it is killed, in the middle of its kernel.
  std::this_thread::sleep_for(std::chrono::seconds(30));
  return 3;
}

void outliveOwner(int shareable, const Placement &where) {
  Process owner =
      startProcess({"owner", std::to_string(shareable), std::to_string(where.peersDevice)}, where.peersGpus);
  CHECK_CUDA(cudaSetDevice(where.device));
  moe_a2a_layout layout{};
  layout.struct_size = sizeof(layout);
  const moe_a2a_config config = configOf(kLargeCapacity, 5000);
  CHECK_A2A(moe_a2a_plan(&config, &layout));
  const Places places(layout);
  Pump pump;
  moe_a2a_window_handle handle{};
  const uint64_t window = takeWindow(owner.socket, where.device, &handle);
  const bool byIpc = handle.kind == MOE_A2A_WINDOW_IPC;
  expect(byIpc == (shareable == MOE_A2A_SHAREABLE_IPC), "the window is of the kind that was asked for");

  expect(wordsAt(window + places.written, pump.side) == patternOf(), "what the owner wrote is there");
  pump.start(window + places.importers, window + places.stop, 20);
  expect(pump.goesOn(), "a kernel stores and loads there");
  killProcess(owner);
  expect(pump.goesOn(), "and does so when the owner is dead");
  std::this_thread::sleep_for(milliseconds(300));
  expect(pump.goesOn(), "and later too");
  const uint32_t one = 1;
  upload(window + places.stop, &one, sizeof one, pump.side);
  CHECK_CUDA(cudaStreamSynchronize(pump.stream));
  expect(pump.countWrong() == 0, "it read what it had stored, until a word of the window stopped it");
  expect(wordsAt(window + places.written, pump.side) == patternOf(), "what the owner wrote is still there");
  pump.start(window + places.importers, window + places.stop, 20);
  CHECK_CUDA(cudaStreamSynchronize(pump.stream));
  std::vector<uint32_t> stored(kPumpWords);
  for (int i = 0; i < kPumpWords; i++) stored[i] = 1u ^ i;
  expect(wordsAt(window + places.importers, pump.side) == stored, "a kernel that starts afterwards can use it as well");

  const uint64_t before = freeBytes(where.device);
  CHECK_A2A(moe_a2a_release_imported_window(window));
  CHECK_CUDA(cudaDeviceSynchronize());
  const auto isBack = [&] { return freeBytes(where.device) >= before + handle.mapped_bytes / 2; };
  if (where.isSameGpu && !byIpc) expect(isSoon(isBack), "the memory goes with the last window that is mapped");
}

int runPeer(int device, int onDevice) {
  CHECK_CUDA(cudaSetDevice(device));
  const JoinedRank joined(1, kParentSocket, device, onDevice);
  joined.makeRounds();
  if (send(kParentSocket, "x", failures ? 0 : 1, MSG_NOSIGNAL) < 0) return 2;
  std::this_thread::sleep_for(std::chrono::seconds(30));
  return 3;
}

void shareRounds(const Placement &where) {
  const int onDevice = where.isSameGpu ? 2 : 1;
  Process peer = startProcess({"peer", std::to_string(where.peersDevice), std::to_string(onDevice)}, where.peersGpus);
  CHECK_CUDA(cudaSetDevice(where.device));
  uint64_t peersWindow = 0;
  {
    const JoinedRank joined(0, peer.socket, where.device, onDevice);
    joined.makeRounds();
    char byte;
    expect(recv(peer.socket, &byte, 1, 0) == 1, "the peer's rounds went well");
    // Rank 0 waits for a rank that is killed meanwhile, fails, and can still be told to close.
    joined.dispatch();
    killProcess(peer);
    CHECK_A2A(moe_a2a_drain(joined.own.handle));
    const moe_a2a_phase_outcome last = joined.own.outcomeOf(MOE_A2A_DISPATCH, kRounds);
    expect(!last.completed && last.failure.code == MOE_A2A_FAIL_MISSING && last.failure.missing_mask == 2,
           "a rank that was killed is missed");
    CHECK_A2A(moe_a2a_announce_close(joined.own.handle));
    CHECK_A2A(moe_a2a_drain(joined.own.handle));
    peersWindow = joined.peersWindow;
  }
  CHECK_A2A(moe_a2a_release_imported_window(peersWindow));
  CHECK_CUDA(cudaDeviceSynchronize());
}

uint64_t importOwn(const OwnRank &own) {
  int32_t fd = -1;
  const moe_a2a_window_handle handle = own.share(&fd);
  uint64_t address = 0;
  CHECK_A2A(moe_a2a_import_window(own.device, &handle, fd, &address));
  if (fd >= 0) close(fd);
  return address;
}

int32_t deviceOf(uint64_t address) {
  int32_t device = -1;
  CHECK_A2A(moe_a2a_pointer_device(address, &device));
  return device;
}

void makeManyTimes(int device) {
  const moe_a2a_config config = configOf(kLargeCapacity, 5000);
  uint64_t before = 0;
  for (int i = 0; i < 20; i++) {
    uint64_t imported;
    {
      const OwnRank own(config, 0, device, 1, MOE_A2A_SHAREABLE);
      imported = importOwn(own);
      expect(imported != own.window, "a window may be mapped twice");
    }
    CHECK_A2A(moe_a2a_release_imported_window(imported));
    if (i == 2) before = freeBytes(device);
  }
  expect(isSoon([&] { return freeBytes(device) + 32 * kMiB >= before; }), "windows that come and go leave nothing");
}

// Nothing waits for a kernel that waits for a peer.
void letGoBesideWaiting(int device) {
  const moe_a2a_config config = configOf(kTokens, 4000);
  const OwnRank first(config, 0, device, 2, MOE_A2A_NOT_SHAREABLE), second(config, 1, device, 2, MOE_A2A_NOT_SHAREABLE);
  const OwnRank other(configOf(kLargeCapacity, 5000), 0, device, 1, MOE_A2A_SHAREABLE);
  first.connect(second.window, device);
  second.connect(first.window, device);
  moe_a2a_dispatch_args d{};
  d.struct_size = sizeof(d);
  d.payload_count = 1;
  d.row_bytes[0] = kHidden * 4;
  d.max_tokens = kTokens;
  d.expert_id_payload = -1;
  CHECK_A2A(moe_a2a_dispatch(first.handle, &d));
  const auto start = Clock::now();
  const uint64_t imported = importOwn(other);
  const auto mapped = Clock::now();
  CHECK_A2A(moe_a2a_release_imported_window(imported));
  const auto released = Clock::now();
  expect(mapped - start < milliseconds(1500), "mapping a window waits for no kernel");
  expect(released - mapped < milliseconds(500), "nor does letting go of it");
  expect(deviceOf(imported) == device, "which leaves it mapped meanwhile");
  CHECK_A2A(moe_a2a_stop(first.handle, 0));
  CHECK_A2A(moe_a2a_drain(first.handle));
  CHECK_A2A(moe_a2a_release_imported_window(importOwn(other)));
  expect(deviceOf(imported) == -1, "it is unmapped when no rank is at work any more");
}

// GPUs as CUDA_VISIBLE_DEVICES names them here.
std::vector<std::string> visibleGpus(int count) {
  std::vector<std::string> names;
  const char *setting = std::getenv(kVisible);
  std::string rest = setting ? setting : "";
  for (int i = 0; i < count; i++) {
    const size_t comma = rest.find(',');
    names.push_back(rest.empty() ? std::to_string(i) : rest.substr(0, comma));
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
  }
  return names;
}

std::vector<Placement> placements(int gpus) {
  std::vector<Placement> all = {{"one GPU", 0, 0, "", "", true}};
  if (gpus < 2) return all;
  const std::vector<std::string> names = visibleGpus(2);
  all.push_back({"two GPUs", 0, 1, "", "", false});
  all.push_back({"two GPUs, each process sees its own", 0, 0, names[0], names[1], false});
  return all;
}

// Runs one test in a process of its own; whether it went well.
bool runAlone(const std::string &test, int shareable, const Placement &where) {
  std::printf("%s, %s\n", test.c_str(), where.name);
  std::fflush(stdout);
  Process process = startProcess({test, std::to_string(shareable), std::to_string(where.device),
                                  std::to_string(where.peersDevice), where.peersGpus, where.isSameGpu ? "1" : "0"},
                                 where.gpus);
  return endOf(process, 25) == 0;
}

int runChild(const std::vector<std::string> &arguments) {
  endWithParent();
  const auto number = [&](size_t i) { return std::stoi(arguments.at(i)); };
  const std::string &role = arguments[0];
  if (role == "owner") return runOwner(number(1), number(2));
  if (role == "peer") return runPeer(number(1), number(2));
  const Placement where{"", number(2), number(3), "", arguments.at(4), number(5) != 0};
  if (role == "outlive") outliveOwner(number(1), where);
  else if (role == "rounds") shareRounds(where);
  else if (role == "release") makeManyTimes(where.device), letGoBesideWaiting(where.device);
  else return 2;
  return failures ? 1 : 0;
}

}  // namespace

// Without arguments it runs everything, with the name of a test that one.
int main(int argc, char **argv) {
  if (argc > 2) return runChild({argv + 1, argv + argc});
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) {
    std::printf("share_test: no GPU: skipped\n");
    return 0;
  }
  const std::string only = argc == 2 ? argv[1] : "";
  const std::vector<Placement> all = placements(gpus);
  bool isGood = true;
  for (const Placement &where : all) {
    if (only.empty() || only == "outlive") isGood &= runAlone("outlive", MOE_A2A_SHAREABLE, where);
    if (only.empty() || only == "rounds") isGood &= runAlone("rounds", MOE_A2A_SHAREABLE, where);
  }
  if (only.empty() || only == "release") isGood &= runAlone("release", MOE_A2A_SHAREABLE, all[0]);
  if (only.empty() || only == "ipc") {
    const bool goesOn = runAlone("outlive", MOE_A2A_SHAREABLE_IPC, all[all.size() > 1]);
    std::printf("By CUDA IPC, a window %s its owner, as far as was seen.\n", goesOn ? "outlives" : "does not outlive");
  }
  std::printf("share_test: %s\n", isGood ? "ok" : "FAILED");
  return isGood ? 0 : 1;
}
