// What rounds_test takes, and how its rounds are enqueued.
#pragma once

#include "world.cuh"

// `alone`: ranks that share a GPU launch as if each had it to itself, for which their blocks have to be few.
// `occupied`: microseconds for which others hold most of each GPU, in every round.
struct Options {
  int ranks = 2, experts = 16, topK = 4, capacity = 64, hidden = 64, extra = 7, stats = 3, rounds = 50, seed = 1,
      kind = 0, slotsBy = 0, splits = 0, tile = 0, blocks = 0, deviceCount = 0, time = 0, lanes = 1, tokens = -1,
      delays = 0, wire = 0, maxSms = 0, ramp = 0, alone = 0, chained = 1, occupied = 0;
};

inline moe_a2a_mapping mappingOf(const Options &o) { return {o.kind, o.tile, o.splits, o.blocks, o.slotsBy}; }

// One of the rounds that follow one another without the host in between, each with what the last one came to.
struct Link {
  int m;
  bool isFirst;     // with slots
  bool hasExperts;  // else what came is combined as it is
  bool inPlace;
};

inline void enqueueDispatch(World &w, const Options &o, int r, int lane, int m, int tokens, bool onDevice,
                            bool again = false) {
  RankMemory &mem = w.ranks[r];
  moe_a2a_dispatch_args d{};
  d.struct_size = sizeof(d);
  d.lane = lane;
  d.capture = mem.capture;
  d.num_local_tokens = onDevice ? m : tokens;
  d.num_local_tokens_ptr = onDevice ? reinterpret_cast<uint64_t>(mem.count) : 0;
  d.max_tokens = m;
  d.expert_ids = reinterpret_cast<uint64_t>(mem.ids);
  d.payload_count = o.extra ? 3 : 2;
  d.payloads[0] = reinterpret_cast<uint64_t>(again ? mem.output : mem.hidden);
  d.payloads[1] = reinterpret_cast<uint64_t>(mem.ids);
  d.payloads[2] = reinterpret_cast<uint64_t>(mem.extra);
  d.row_bytes[0] = o.hidden * 2;
  d.row_bytes[1] = o.topK * 4;
  d.row_bytes[2] = o.extra;
  d.expert_id_payload = 1;
  d.invalid_expert_id = -3;
  d.expert_stats = reinterpret_cast<uint64_t>(mem.stats);
  d.stats_length = o.stats;
  d.mapping = mappingOf(o);
  CHECK_A2A(moe_a2a_dispatch(mem.rank, &d));
}

inline void enqueueExperts(World &w, const Options &o, int r, int lane, const Link &link) {
  RankMemory &mem = w.ranks[r];
  const int m = link.m;
  if (m == 0 || !link.hasExperts) return;
  const auto &at = w.layout.lanes[lane];
  CHECK_CUDA(cudaSetDevice(mem.device));
  auto *out = link.inPlace ? reinterpret_cast<uint16_t *>(mem.window + at.combine) : mem.offered;
  expertKernel<<<dim3(8, o.ranks), 128, 0, reinterpret_cast<cudaStream_t>(mem.stream)>>>(
      reinterpret_cast<const uint16_t *>(mem.window + at.recv),
      reinterpret_cast<const int32_t *>(mem.own + at.recv_counts), out, m, o.hidden, r);
  CHECK_CUDA(cudaGetLastError());
}

inline void enqueueCombine(World &w, const Options &o, int r, int lane, const Link &link) {
  RankMemory &mem = w.ranks[r];
  const auto &at = w.layout.lanes[lane];
  moe_a2a_combine_args c{};
  c.struct_size = sizeof(c);
  c.lane = lane;
  c.capture = mem.capture;
  c.expert_output = !link.hasExperts ? mem.window + at.recv
                    : link.inPlace   ? mem.window + at.combine
                                     : reinterpret_cast<uint64_t>(mem.offered);
  c.hidden_size = o.hidden;
  c.dtype = c.out_dtype = MOE_A2A_BFLOAT16;
  c.output = reinterpret_cast<uint64_t>(mem.output);
  c.mapping = mappingOf(o);
  CHECK_A2A(moe_a2a_combine(mem.rank, &c));
}
