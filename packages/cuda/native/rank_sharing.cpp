// How a rank's window goes to ranks in other processes, and theirs come here.
#include <cstdio>
#include <cstring>

#include "rank.hpp"

namespace moe_a2a_addon {

namespace {

std::string namesOf(uint64_t mask) {
  std::string names;
  for (int r = 0; r < MOE_A2A_MAX_RANKS; r++) {
    if (mask >> r & 1) names += (names.empty() ? "" : ", ") + std::to_string(r);
  }
  return names;
}

TaskResult failureOf(int rank, const FdExchange::Outcome &outcome, std::chrono::milliseconds timeout) {
  const std::string what = "rank " + std::to_string(rank) + ": windows are not shared: ";
  const std::string who = "rank(s) " + namesOf(outcome.missing);
  switch (outcome.end) {
    case FdExchange::End::kGone:
      return {what + who + " left", outcome.missing, MOE_A2A_LOST};
    case FdExchange::End::kStopped:
      return {what + "stopped while " + who + " had not come", outcome.missing, MOE_A2A_LOST};
    default:
      return {what + who + " did not come within " + std::to_string(timeout.count()) + " ms", outcome.missing,
              MOE_A2A_TIMEOUT};
  }
}

}  // namespace

TaskResult Rank::shareWindows(const std::vector<FdExchange::Peer> &peers, std::chrono::milliseconds timeout) {
  moe_a2a_window_handle handle{};
  handle.struct_size = sizeof handle;
  int32_t fd = -1;
  if (const int32_t result = moe_a2a_rank_export_window(handle_, &handle, &fd); result < 0) {
    TaskResult failed(result);
    exchange->close();
    return failed;
  }
  Descriptor own(fd);
  std::vector<uint8_t> bytes(sizeof handle);
  static_assert(sizeof handle <= Gift::kMaxBytes);
  std::memcpy(bytes.data(), &handle, sizeof handle);
  FdExchange::Outcome outcome = exchange->run(options.rank, peers, bytes, own.get(), timeout);
  own.reset();
  if (outcome.end != FdExchange::End::kDone) return failureOf(options.rank, outcome, timeout);
  lines = PeerLines(std::move(outcome.lines));
  return importWindows(outcome.gifts);
}

TaskResult Rank::importWindows(const std::vector<Gift> &gifts) {
  std::vector<uint64_t> found(gifts.size());
  for (int r = 0; r < static_cast<int>(gifts.size()); r++) {
    if (r == options.rank) {
      uint64_t bytes;
      moe_a2a_rank_window(handle_, &found[r], &bytes);
      continue;
    }
    moe_a2a_window_handle handle{};
    // What is of another size is refused for its struct_size, 0.
    if (gifts[r].bytes.size() == sizeof handle) std::memcpy(&handle, gifts[r].bytes.data(), sizeof handle);
    const int32_t result = moe_a2a_import_window(options.device, &handle, gifts[r].fd.get(), &found[r]);
    if (result < 0) {
      TaskResult failed(result);
      const std::string told = "the window of rank " + std::to_string(r) + ": " + fixedText(failed.error.message);
      std::snprintf(failed.error.message, sizeof failed.error.message, "%s", told.c_str());
      releaseImported();
      return failed;
    }
    imported_.push_back(found[r]);
  }
  windows = std::move(found);
  return MOE_A2A_OK;
}

void Rank::releaseImported() {
  for (const uint64_t address : imported_) moe_a2a_release_imported_window(address);
  imported_.clear();
  windows.clear();
}

}  // namespace moe_a2a_addon
