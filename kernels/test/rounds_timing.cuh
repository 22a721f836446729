// How long rounds take out of a graph.
#pragma once

#include "rounds.cuh"

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_dispatch(long long *clocks);
extern "C" int moe_a2a_trace_dispatch_direct(long long *clocks);
extern "C" int moe_a2a_trace_dispatch_packets(long long *clocks);
extern "C" int moe_a2a_trace_combine(long long *clocks);
extern "C" int moe_a2a_trace_combine_direct(long long *clocks);
extern "C" int moe_a2a_trace_combine_packets(long long *clocks);
extern "C" int moe_a2a_trace_combine_push(long long *clocks);
constexpr std::pair<const char *, int (*)(long long *)> traces[] = {
    {"dispatch", moe_a2a_trace_dispatch},
    {"dispatch, direct", moe_a2a_trace_dispatch_direct},
    {"dispatch, in packets", moe_a2a_trace_dispatch_packets},
    {"combine", moe_a2a_trace_combine},
    {"combine, direct", moe_a2a_trace_combine_direct},
    {"combine, in packets", moe_a2a_trace_combine_packets},
    {"combine, by push", moe_a2a_trace_combine_push}};
#endif

// Prints the median of some samples; returns how many ranks have failed.
inline int timing(const Options &o, int devices) {
  int failures = 0;
  World w(o.ranks, o.experts, o.topK, o.capacity, o.hidden, 0, 0, devices, 1, 0, 500, o.wire, o.maxSms, o.alone);
  std::mt19937 random(5);
  const int T = o.tokens < 0 ? o.capacity : o.tokens, m = o.capacity;
  Options plain = o;
  plain.extra = plain.stats = 0;
  for (RankMemory &mem : w.ranks) {
    std::vector<int32_t> ids;
    for (int t = 0; t < m; t++) {
      std::vector<int> chosen;
      while (static_cast<int>(chosen.size()) < o.topK) {
        const int id = static_cast<int>(random() % o.experts);
        bool again = false;
        for (int c : chosen) again |= c == id;
        if (!again) chosen.push_back(id);
      }
      ids.insert(ids.end(), chosen.begin(), chosen.end());
    }
    CHECK_CUDA(cudaSetDevice(mem.device));
    CHECK_CUDA(cudaMemcpy(mem.ids, ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
  }
  constexpr int kRounds = 20, kSamples = 15;
  // 0: rounds, 1: dispatch alone is not possible, so the combine's share is told by a round without it.
  std::vector<uint64_t> graphs(o.ranks), starts(o.ranks), ends(o.ranks);
  for (int r = 0; r < o.ranks; r++) {
    RankMemory &mem = w.ranks[r];
    CHECK_A2A(moe_a2a_timer_create(mem.device, &starts[r]));
    CHECK_A2A(moe_a2a_timer_create(mem.device, &ends[r]));
    CHECK_A2A(moe_a2a_capture_begin(mem.device, mem.stream, &mem.capture));
    for (int i = 0; i < kRounds; i++) {
      enqueueDispatch(w, plain, r, 0, m, o.ramp ? T * (r + 1) / o.ranks : T, false);
      enqueueCombine(w, plain, r, 0, {m, true, true, true});
    }
    CHECK_A2A(moe_a2a_capture_end(mem.device, mem.stream, &graphs[r]));
    mem.capture = 0;
  }
  std::vector<float> samples;
  for (int s = 0; s < kSamples; s++) {
    for (int r = 0; r < o.ranks; r++)
      CHECK_A2A(moe_a2a_graph_launch(w.ranks[r].device, graphs[r], w.ranks[r].stream, 1));
    for (int r = 0; r < o.ranks; r++) {
      RankMemory &mem = w.ranks[r];
      CHECK_A2A(moe_a2a_event_record(mem.device, starts[r], mem.stream));
      CHECK_A2A(moe_a2a_graph_launch(mem.device, graphs[r], mem.stream, 1));
      CHECK_A2A(moe_a2a_event_record(mem.device, ends[r], mem.stream));
    }
    float worst = 0;
    for (int r = 0; r < o.ranks; r++) {
      RankMemory &mem = w.ranks[r];
      CHECK_A2A(moe_a2a_drain(mem.rank));
      float ms = 0;
      CHECK_A2A(moe_a2a_event_elapsed(mem.device, starts[r], ends[r], &ms));
      if (moe_a2a_has_failed(mem.rank)) {
        moe_a2a_phase_outcome outcome{};
        outcome.struct_size = sizeof(outcome);
        CHECK_A2A(moe_a2a_outcome(mem.rank, 0, 0, 0x3fffffffu, &outcome));
        const moe_a2a_failure &f = outcome.failure;
        std::printf(
            "sample %d: rank %d failed: code %d, found by %d, phase %d, round %x, kind %d, missing %llx, field %d\n", s,
            r, f.code, f.found_by, f.phase, f.round, f.kind, (unsigned long long)f.missing_mask, f.field);
        failures++;
      }
      worst = ms > worst ? ms : worst;
    }
    if (s > 2) samples.push_back(worst * 1000 / kRounds);
  }
  std::sort(samples.begin(), samples.end());
  std::printf("T %d m %d H %d K %d E %d R %d kind %d tile %d splits %d: round median %.2f us, min %.2f, max %.2f\n", T,
              m, o.hidden, o.topK, o.experts, o.ranks, o.kind, o.tile, o.splits, samples[samples.size() / 2],
              samples.front(), samples.back());
#ifdef MOE_A2A_TRACE
  CHECK_CUDA(cudaSetDevice(0));
  for (const auto &[name, trace] : traces) {
    long long clocks[32] = {};
    trace(clocks);
    for (int b = 0; b < 32 && clocks[1]; b += 16) {
      std::printf(b ? " | last block" : "  %s: first block", name);
      for (int i = 2; i < 11; i++) std::printf(" %lld", clocks[b + i] ? clocks[b + i] - clocks[b + 1] : 0);
      std::printf(b ? "\n" : "");
    }
  }
#endif
  for (int r = 0; r < o.ranks; r++) CHECK_A2A(moe_a2a_graph_destroy(w.ranks[r].device, graphs[r]));
  return failures;
}
