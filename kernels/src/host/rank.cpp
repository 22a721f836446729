#include "rank.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "../kernels.hpp"
#include "launch.hpp"
#include "parking.hpp"
#include "pools.hpp"

namespace moe_a2a {
namespace {

Divisor makeDivisor(uint32_t divisor) {
  int log2 = 0;
  while ((1ull << log2) < divisor) log2++;
  const uint64_t multiplier = ((1ull << (31 + log2)) + divisor - 1) / divisor;
  return {divisor, static_cast<uint32_t>(multiplier), 31 + log2};
}

Placement makePlacement(const moe_a2a_config &config) {
  const uint32_t base = config.num_experts / config.ep_size, extra = config.num_experts % config.ep_size;
  Placement placement{};
  placement.numExperts = config.num_experts;
  placement.extra = static_cast<int32_t>(extra);
  placement.boundary = static_cast<int32_t>(extra * (base + 1));
  placement.larger = makeDivisor(base + 1);
  placement.smaller = makeDivisor(base);
  return placement;
}

// Loads kernels now, so that nothing is loaded in a round; lowers `blocksPerSm` to what an SM holds of each.
cudaError_t loadKernels(const std::vector<const void *> &kernels, int *blocksPerSm) {
  for (const void *kernel : kernels) {
    cudaFuncAttributes attributes;
    if (const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel)) return error;
    int blocks = 0;
    if (const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, 0))
      return error;
    *blocksPerSm = std::min(*blocksPerSm, blocks);
  }
  return cudaSuccess;
}

int32_t limitBlocks(moe_a2a_rank &rank) {
  cudaDeviceProp properties;
  MOE_A2A_TRY(cudaGetDeviceProperties(&properties, rank.options.device));
  std::vector<const void *> kernels = {dispatchFunction(), dispatchDirectlyFunction()};
  std::vector<const void *> inPackets = {dispatchInPacketsFunction()};
  for (int dtype = 0; dtype < 3; dtype++) {
    kernels.insert(kernels.end(),
                   {combineFunction(dtype), combineDirectlyFunction(dtype), combineByPushFunction(dtype)});
    inPackets.push_back(combineInPacketsFunction(dtype));
  }
  int perSm = kBlocksPerSm, packetsPerSm = kPacketBlocksPerSm;
  MOE_A2A_TRY(loadKernels(kernels, &perSm));
  MOE_A2A_TRY(loadKernels(inPackets, &packetsPerSm));
  int sms = properties.multiProcessorCount;
  if (rank.options.max_sms > 0) sms = std::min(sms, rank.options.max_sms);
  // The waiting blocks of all lanes and ranks of a GPU fit it together.
  const int sharers = std::max(1, rank.options.ranks_on_device) * rank.config.rounds_in_flight;
  rank.maxBlocks = std::max(1, sms * std::max(1, perSm) / sharers);
  rank.maxPacketBlocks = std::max(1, sms * std::max(1, packetsPerSm) / sharers);
  rank.programmaticLaunch = properties.major >= 9 && rank.options.ranks_on_device <= 1;
  return MOE_A2A_OK;
}

int32_t allocate(moe_a2a_rank &rank) {
  const moe_a2a_layout &layout = rank.layout;
  const int32_t device = rank.options.device, how = rank.options.shareable;
  const int32_t made = how ? allocateSharedWindow(device, layout.window_bytes, how, &rank.window)
                           : allocateWindow(device, layout.window_bytes, &rank.window);
  if (made != MOE_A2A_OK) return made;
  uint64_t own = 0;
  if (const int32_t result = moe_a2a_alloc(device, layout.private_bytes, &own)) return result;
  rank.own = reinterpret_cast<uint8_t *>(own);
  if (const int32_t result = takeHostBlock(&rank.staging)) return result;
  rank.host = reinterpret_cast<HostPage *>(rank.staging + kStagingBytes);
  MOE_A2A_TRY(cudaHostGetDevicePointer(reinterpret_cast<void **>(&rank.hostOnDevice), rank.host, 0));
  int least = 0, greatest = 0;
  MOE_A2A_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  MOE_A2A_TRY(cudaStreamCreateWithPriority(&rank.stream, cudaStreamNonBlocking, greatest));
  MOE_A2A_TRY(cudaStreamCreateWithPriority(&rank.side, cudaStreamNonBlocking, greatest));
  for (auto &lane : rank.events) {
    for (PhaseEvents &phase : lane) {
      for (cudaEvent_t &event : phase.events) MOE_A2A_TRY(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    }
  }
  MOE_A2A_TRY(cudaEventCreateWithFlags(&rank.replayEvent, cudaEventDisableTiming));
  return MOE_A2A_OK;
}

// Makes window and private memory as they are before the first round.
int32_t initialise(moe_a2a_rank &rank) {
  const moe_a2a_layout &layout = rank.layout;
  const int ranks = rank.config.ep_size;
  *rank.host = {};
  MOE_A2A_TRY(cudaMemsetAsync(rank.window, 0, layout.window_bytes, rank.side));
  MOE_A2A_TRY(cudaMemsetAsync(rank.own, 0, layout.private_bytes, rank.side));
  const uint32_t before = rank.options.first_round - 1;
  // Words of the round before, in every place, piece by piece.
  const uint64_t countBytes = static_cast<uint64_t>(rank.config.max_tokens_per_rank) * ranks * sizeof(uint64_t);
  const std::vector<uint64_t> counts(std::min<uint64_t>(countBytes, 1 << 20) / sizeof(uint64_t),
                                     static_cast<uint64_t>(before) << 32);
  const uint64_t piece = counts.size() * sizeof(uint64_t);
  for (int l = 0; l < rank.config.rounds_in_flight; l++) {
    for (uint64_t at = 0; at < countBytes; at += piece) {
      MOE_A2A_TRY(cudaMemcpyAsync(rank.own + layout.lanes[l].tile_counts + at, counts.data(),
                                  std::min(piece, countBytes - at), cudaMemcpyHostToDevice, rank.side));
    }
  }
  // The vector above is read until here.
  MOE_A2A_TRY(cudaStreamSynchronize(rank.side));
  const uint64_t all = ranks == 64 ? ~0ull : (1ull << ranks) - 1;
  const std::vector<uint32_t> rounds(MOE_A2A_MAX_LANES, rank.options.first_round);
  if (const int32_t result = moe_a2a_clean(&rank, rounds.data())) return result;
  return moe_a2a_start_generation(&rank, 0, all, rounds.data());
}

int32_t create(moe_a2a_rank &rank) {
  MOE_A2A_ON_DEVICE(rank.options.device);
  if (const int32_t result = limitBlocks(rank)) return result;
  if (const int32_t result = allocate(rank)) return result;
  for (int lane = 0; lane < rank.config.rounds_in_flight; lane++) {
    for (PhaseParams &phase : rank.phases[lane]) phase = phaseParams(rank, lane);
  }
  return initialise(rank);
}

}  // namespace
}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_rank_create(const moe_a2a_config *config, const moe_a2a_rank_options *options, moe_a2a_rank **out) {
  using namespace moe_a2a;
  if (!config || !options || !out || options->struct_size != sizeof(*options))
    return invalid("a pointer is null or a struct_size wrong");
  auto *rank = new (std::nothrow) moe_a2a_rank;
  if (!rank) return invalid("out of host memory");
  rank->config = *config;
  rank->options = *options;
  rank->layout.struct_size = sizeof(rank->layout);
  int32_t result = moe_a2a_plan(config, &rank->layout);
  if (result == MOE_A2A_OK && (options->rank < 0 || options->rank >= config->ep_size))
    result = invalid("rank is outside 0…ep_size - 1");
  else if (result == MOE_A2A_OK &&
           (options->shareable < MOE_A2A_NOT_SHAREABLE || options->shareable > MOE_A2A_SHAREABLE_IPC))
    result = invalid("shareable is none of enum moe_a2a_shareable");
  else if (result == MOE_A2A_OK &&
           (options->wire_form < MOE_A2A_WIRE_CHOSEN || options->wire_form > MOE_A2A_WIRE_PUSHED_ROWS))
    result = invalid("wire_form is none of enum moe_a2a_wire_form");
  else if (result != MOE_A2A_OK) invalid("the config is out of range");
  if (result == MOE_A2A_OK) {
    rank->placement = makePlacement(*config);
    result = create(*rank);
  }
  if (result != MOE_A2A_OK) {
    moe_a2a_error first{};
    moe_a2a_last_error(&first);
    moe_a2a_rank_destroy(rank);
    keepError(first);
    return result;
  }
  noteOpened(rank);
  *out = rank;
  return MOE_A2A_OK;
}

int32_t moe_a2a_rank_window(const moe_a2a_rank *rank, uint64_t *address, uint64_t *bytes) {
  *address = reinterpret_cast<uint64_t>(rank->window);
  *bytes = rank->layout.window_bytes;
  return MOE_A2A_OK;
}

int32_t moe_a2a_rank_private(const moe_a2a_rank *rank, uint64_t *address, uint64_t *bytes) {
  *address = reinterpret_cast<uint64_t>(rank->own);
  *bytes = rank->layout.private_bytes;
  return MOE_A2A_OK;
}

int32_t moe_a2a_rank_stream(const moe_a2a_rank *rank, uint64_t *stream) {
  *stream = reinterpret_cast<uint64_t>(rank->stream);
  return MOE_A2A_OK;
}

int32_t moe_a2a_rank_connect(moe_a2a_rank *rank, const uint64_t *windows, const int32_t *devices) {
  using namespace moe_a2a;
  MOE_A2A_ON_DEVICE(rank->options.device);
  const int ranks = rank->config.ep_size;
  if (windows[rank->options.rank] != reinterpret_cast<uint64_t>(rank->window))
    return invalid("windows[rank] is not this rank's own window");
  for (int r = 0; r < ranks; r++) {
    rank->windows[r] = windows[r];
    SharedWindow shared;
    if (findShared(windows[r], &shared) && shared.imported) {
      if (shared.device != rank->options.device) return invalid("a peer's window was imported for another device");
      if (shared.bytes < rank->layout.window_bytes) return invalid("a peer's window is smaller than this rank's");
    }
    if (devices[r] == MOE_A2A_ELSEWHERE) continue;
    int32_t reaches = 1;
    if (const int32_t result = moe_a2a_can_access_peer(rank->options.device, devices[r], &reaches)) return result;
    if (!reaches) return invalid("a peer's device cannot be accessed from this rank's");
  }
  std::memcpy(rank->staging, windows, ranks * sizeof(uint64_t));
  MOE_A2A_TRY(copyToDevice(*rank, rank->own + rank->layout.state + offsetof(RankState, windows), rank->staging,
                           ranks * sizeof(uint64_t)));
  MOE_A2A_TRY(cudaStreamSynchronize(rank->side));
  rank->connected = true;
  return MOE_A2A_OK;
}

int32_t moe_a2a_rank_detach_window(moe_a2a_rank *rank) {
  rank->ownsWindow = false;
  return MOE_A2A_OK;
}

void moe_a2a_rank_destroy(moe_a2a_rank *rank) {
  if (!rank) return;
  moe_a2a::noteClosed(rank);
  {
    const moe_a2a::OnDevice onDevice(rank->options.device);
    for (auto &lane : rank->events) {
      for (const moe_a2a::PhaseEvents &phase : lane) {
        for (cudaEvent_t event : phase.events) {
          if (event) cudaEventDestroy(event);
        }
      }
    }
    if (rank->replayEvent) cudaEventDestroy(rank->replayEvent);
    if (rank->stream) cudaStreamDestroy(rank->stream);
    if (rank->side) {
      // Nothing there waits for peers, and memory must not go back under a copy.
      cudaStreamSynchronize(rank->side);
      cudaStreamDestroy(rank->side);
    }
    if (rank->staging) moe_a2a::giveHostBlock(rank->staging);
    if (rank->own) moe_a2a_free(rank->options.device, reinterpret_cast<uint64_t>(rank->own));
    if (rank->window && rank->ownsWindow)
      moe_a2a_free_window(rank->options.device, reinterpret_cast<uint64_t>(rank->window));
    cudaGetLastError();
  }
  delete rank;
}

int32_t moe_a2a_set_delays(moe_a2a_rank *rank, const moe_a2a_delays *d) {
  if (!d || d->struct_size != sizeof(*d)) return moe_a2a::invalid("struct_size is wrong");
  for (int lane = 0; lane < MOE_A2A_MAX_LANES; lane++) {
    for (int phase = 0; phase < 2; phase++) {
      rank->phases[lane][phase].delays = {d->before_stores[phase], d->before_flag[phase], d->after_flag[phase],
                                          d->after_wait[phase]};
    }
    rank->dispatches[lane].kernel = nullptr;
    rank->combines[lane].kernel = nullptr;
  }
  return MOE_A2A_OK;
}

}  // extern "C"
