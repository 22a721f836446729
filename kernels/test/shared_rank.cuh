// Ranks in different processes, for the tests of shared windows.
#pragma once

#include "processes.hpp"
#include "window_pump.cuh"

constexpr int kTokens = 4, kHidden = 64;
constexpr uint32_t kRounds = 20;

inline int failures = 0;

inline void expect(bool holds, const char *what) {
  if (holds) return;
  failures++;
  std::printf("FAILED: %s\n", what);
}

inline moe_a2a_config configOf(int capacity, int timeoutMs) {
  return {sizeof(moe_a2a_config), 2, 4, 1, capacity, kHidden * 4, kHidden * 4, 0, 0, timeoutMs, 1};
}

// One of two ranks.
struct OwnRank {
  const int rank, device;
  moe_a2a_rank *handle = nullptr;
  moe_a2a_layout layout{};
  uint64_t window = 0, stream = 0;

  OwnRank(const moe_a2a_config &config, int r, int where, int onDevice, int shareable) : rank(r), device(where) {
    layout.struct_size = sizeof(layout);
    CHECK_A2A(moe_a2a_plan(&config, &layout));
    const moe_a2a_rank_options options{sizeof(options), r, device, 0, 0, 0, onDevice, shareable};
    CHECK_A2A(moe_a2a_rank_create(&config, &options, &handle));
    uint64_t bytes;
    CHECK_A2A(moe_a2a_rank_window(handle, &window, &bytes));
    CHECK_A2A(moe_a2a_rank_stream(handle, &stream));
  }
  ~OwnRank() { moe_a2a_rank_destroy(handle); }

  moe_a2a_window_handle share(int32_t *fd) const {
    moe_a2a_window_handle shared{};
    shared.struct_size = sizeof(shared);
    CHECK_A2A(moe_a2a_rank_export_window(handle, &shared, fd));
    return shared;
  }
  void give(int socket) const {
    int32_t fd = -1;
    const moe_a2a_window_handle shared = share(&fd);
    sendWindow(socket, shared, fd);
    if (fd >= 0) close(fd);
  }
  void connect(uint64_t peersWindow, int peersDevice) const {
    uint64_t windows[2] = {peersWindow, peersWindow};
    int32_t devices[2] = {peersDevice, peersDevice};
    windows[rank] = window;
    devices[rank] = device;
    CHECK_A2A(moe_a2a_rank_connect(handle, windows, devices));
  }
  moe_a2a_phase_outcome outcomeOf(int phase, uint32_t round) const {
    moe_a2a_phase_outcome outcome{};
    outcome.struct_size = sizeof(outcome);
    CHECK_A2A(moe_a2a_outcome(handle, 0, phase, round, &outcome));
    return outcome;
  }
};

inline uint64_t takeWindow(int socket, int device, moe_a2a_window_handle *handle) {
  int fd = -1;
  receiveWindow(socket, handle, &fd);
  uint64_t address = 0;
  CHECK_A2A(moe_a2a_import_window(device, handle, fd, &address));
  if (fd >= 0) close(fd);
  return address;
}

// Rank 0 has tokens, rank 1 none.
struct JoinedRank {
  OwnRank own;
  uint64_t peersWindow = 0, ids = 0, rows = 0, output = 0;

  JoinedRank(int r, int socket, int device, int onDevice)
      : own(configOf(kTokens, 2000), r, device, onDevice, MOE_A2A_SHAREABLE) {
    own.give(socket);
    moe_a2a_window_handle handle{};
    peersWindow = takeWindow(socket, device, &handle);
    own.connect(peersWindow, MOE_A2A_ELSEWHERE);
    CHECK_A2A(moe_a2a_alloc(device, kTokens * 4, &ids));
    CHECK_A2A(moe_a2a_alloc(device, kTokens * kHidden * 4, &rows));
    CHECK_A2A(moe_a2a_alloc(device, kTokens * kHidden * 4, &output));
    const int32_t chosen[kTokens] = {3, 0, 2, 1};
    upload(ids, chosen, sizeof chosen, reinterpret_cast<cudaStream_t>(own.stream));
  }

  void dispatch() const {
    moe_a2a_dispatch_args d{};
    d.struct_size = sizeof(d);
    d.num_local_tokens = own.rank == 0 ? kTokens : 0;
    d.max_tokens = kTokens;
    d.expert_ids = ids;
    d.payload_count = 1;
    d.payloads[0] = rows;
    d.row_bytes[0] = kHidden * 4;
    d.expert_id_payload = -1;
    CHECK_A2A(moe_a2a_dispatch(own.handle, &d));
  }
  // The experts give back what they got.
  void combine() const {
    moe_a2a_combine_args c{};
    c.struct_size = sizeof(c);
    c.expert_output = own.window + own.layout.lanes[0].recv;
    c.hidden_size = kHidden;
    c.output = output;
    CHECK_A2A(moe_a2a_combine(own.handle, &c));
  }
  void makeRounds() const {
    const auto stream = reinterpret_cast<cudaStream_t>(own.stream);
    std::vector<float> sent(kTokens * kHidden), returned(sent.size());
    for (uint32_t round = 0; round < kRounds; round++) {
      for (size_t i = 0; i < sent.size(); i++) sent[i] = static_cast<float>(i) + 1000.0f * round;
      upload(rows, sent.data(), sent.size() * 4, stream);
      dispatch();
      combine();
      CHECK_A2A(moe_a2a_drain(own.handle));
      expect(own.outcomeOf(MOE_A2A_COMBINE, round).completed, "a round between processes completes");
      download(returned.data(), output, sent.size() * 4, stream);
      if (own.rank == 0) expect(returned == sent, "and brings back what the experts gave");
    }
  }
};
