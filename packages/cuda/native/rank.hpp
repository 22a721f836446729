// One rank of an instance, as an environment holds it.
#pragma once

#include <napi.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "copy_queues.hpp"
#include "fd_exchange.hpp"
#include "moe_a2a.h"
#include "waiter.hpp"

namespace moe_a2a_addon {

/*
 * The arguments of a lane's phases, written by JavaScript into one array buffer; see packages/cuda/src/lane-block.ts,
 * which has the same numbers. Words are indices of int32, longs of uint64.
 */
struct LaneBlock {
  static constexpr size_t kBytes = 512;
  enum Word {
    kNumLocalTokens = 0,
    kMaxTokens,
    kPayloadCount,
    kExpertIdPayload,
    kInvalidExpertId,
    kStatsLength,
    kRowBytes = 8,
    kDispatchMapping = 16,
    kHiddenSize = 24,
    kDType,
    kOutDType,
    kCombineMapping = 28,
  };
  enum Long {
    kDispatchStream = 20,
    kTokenCount,
    kExpertIds,
    kStats,
    kPayloads = 24,
    // Written by the addon.
    kRecvOffsets = 32,
    kCombineStream = 40,
    kExpertOutput,
    kOutput,
    kDispatchCapture,
    kCombineCapture,
  };
};

class Rank {
 public:
  moe_a2a_config config{};
  moe_a2a_rank_options options{};
  // Of the instance, the same on all its ranks.
  std::string key;

  // Runs on a thread of its own: memory, kernels, streams.
  int32_t open();
  int32_t connect(const uint64_t *windows, const int32_t *devices);
  // Enqueued work ends and sends what it has to; peers are told where `announce`. Then everything is let go of.
  int32_t close(bool announce);

  // Gives this rank's window to all others, which are in other processes, and maps theirs. Blocks.
  TaskResult shareWindows(const std::vector<FdExchange::Peer> &peers, std::chrono::milliseconds timeout);
  void stopShare() {
    if (exchange) exchange->stop();
  }

  int32_t dispatch(int lane);
  int32_t combine(int lane);

  // What a copy comes after: events, and what streams hold now.
  struct After {
    const uint64_t *events;
    size_t eventCount;
    const uint64_t *streams;
    size_t streamCount;
  };
  // Copies `bytes` between pinned host memory and device memory. `*passed` is a new event of the pool, `*queue` the
  // stream that `copyQueues` has to be told of once it has passed, or 0.
  int32_t copy(bool toDevice, uint64_t address, void *staged, uint64_t bytes, const After &after, uint64_t *passed,
               uint64_t *queue);
  // Launches a graph with phases of this rank so many times, and records an event behind it; on any thread. Launches
  // end early once `stopsReplays` is set.
  int32_t replay(uint64_t graph, uint64_t stream, int32_t times, uint64_t event);
  // Gives a tensor's memory back once what is enqueued now has passed.
  void release(uint64_t address);

  moe_a2a_rank *handle() const { return handle_; }
  uint64_t laneStream(int lane) const { return laneStreams_[lane]; }
  bool isOpen() const { return handle_ != nullptr && !busy.load(); }

  // Replaced only while the rank is not busy.
  std::unique_ptr<FdExchange> exchange;
  // Of all ranks, by rank, as shareWindows() mapped them; empty before.
  std::vector<uint64_t> windows;
  // To ranks in other processes, once shareWindows() is done.
  PeerLines lines;

  // Tensors given back while a thread of its own works on this rank.
  std::vector<uint64_t> deferred;
  // Whether a thread of its own works on this rank.
  std::atomic<bool> busy{false};
  // Whether replays that are being enqueued are to be no more: their rounds are given up.
  std::atomic<bool> stopsReplays{false};
  // Copies may outlive the rank.
  const std::shared_ptr<CopyQueues> copyQueues = std::make_shared<CopyQueues>();
  uint8_t *blocks[MOE_A2A_MAX_LANES] = {};
  Napi::Reference<Napi::ArrayBuffer> blockRefs[MOE_A2A_MAX_LANES];

 private:
  int32_t enqueueCopy(uint64_t target, uint64_t source, uint64_t bytes, const After &after, uint64_t event,
                      uint64_t stream);
  int32_t recordOn(uint64_t stream, std::vector<uint64_t> &events);
  int32_t recordForeign(std::vector<uint64_t> &events);
  int32_t recordAll(std::vector<uint64_t> &events);
  TaskResult importWindows(const std::vector<Gift> &gifts);
  void releaseImported();

  moe_a2a_rank *handle_ = nullptr;
  bool joined_ = false;
  std::vector<uint64_t> imported_;
  // Whether phases or graphs went to streams of the caller's.
  std::atomic<bool> usedForeignStreams_{false};
  uint64_t laneStreams_[MOE_A2A_MAX_LANES] = {};
  // For memory that goes back after work on streams of the caller's.
  uint64_t releaseStream_ = 0;
  uint64_t sharedCopyStream_ = 0;
};

}  // namespace moe_a2a_addon
