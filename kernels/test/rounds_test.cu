// Random rounds against a reference on the CPU, byte for byte; and, with --time, how long phases take.
#include "world.cuh"

#ifdef MOE_A2A_TRACE
extern "C" int moe_a2a_trace_dispatch(long long *clocks);
extern "C" int moe_a2a_trace_combine(long long *clocks);
extern "C" int moe_a2a_trace_dispatch_packets(long long *clocks);
extern "C" int moe_a2a_trace_combine_packets(long long *clocks);
extern "C" int moe_a2a_trace_combine_push(long long *clocks);
#endif

namespace {

struct Options {
  int ranks = 2, experts = 16, topK = 4, capacity = 64, hidden = 64, extra = 7, stats = 3, rounds = 50, seed = 1,
      kind = 0, slotsBy = 0, splits = 0, tile = 0, blocks = 0, deviceCount = 0, time = 0, lanes = 1, tokens = -1,
      delays = 0, wire = 0, maxSms = 0, ramp = 0, alone = 0, chained = 1;
};

struct Inputs {
  int tokens;
  std::vector<int32_t> ids, stats;
  std::vector<uint16_t> hidden;
  std::vector<uint8_t> extra;
};

Inputs randomInputs(const Options &o, int maxTokens, std::mt19937 &random) {
  Inputs in;
  const int pattern = random() % 4;
  in.tokens = pattern == 0 || maxTokens == 0 ? 0
              : pattern == 1                 ? maxTokens
                                             : static_cast<int>(random() % (maxTokens + 1));
  in.ids.resize(static_cast<size_t>(in.tokens) * o.topK);
  const bool all = random() % 8 == 0;
  for (auto &id : in.ids) id = random() % 10 == 0 ? -1 : all ? 0 : static_cast<int32_t>(random() % o.experts);
  in.hidden.resize(static_cast<size_t>(in.tokens) * o.hidden);
  for (auto &x : in.hidden) x = roundToBf16((static_cast<int>(random() % 20001) - 10000) * 0.001f);
  in.extra.resize(static_cast<size_t>(in.tokens) * o.extra);
  for (auto &x : in.extra) x = static_cast<uint8_t>(random());
  in.stats.resize(o.stats);
  for (auto &x : in.stats) x = static_cast<int32_t>(random());
  return in;
}

template <typename T>
void upload(T *target, const std::vector<T> &data, uint64_t stream) {
  if (!data.empty())
    CHECK_CUDA(cudaMemcpyAsync(target, data.data(), data.size() * sizeof(T), cudaMemcpyHostToDevice,
                               reinterpret_cast<cudaStream_t>(stream)));
}
template <typename T>
std::vector<T> download(uint64_t source, size_t count) {
  std::vector<T> data(count);
  if (count)
    CHECK_CUDA(cudaMemcpy(data.data(), reinterpret_cast<void *>(source), count * sizeof(T), cudaMemcpyDeviceToHost));
  return data;
}

int failures = 0;
void expectEqual(const void *a, const void *b, size_t bytes, const char *what, int round, int rank) {
  if (bytes == 0 || std::memcmp(a, b, bytes) == 0) return;
  size_t at = 0;
  while (static_cast<const uint8_t *>(a)[at] == static_cast<const uint8_t *>(b)[at]) at++;
  if (failures++ < 10)
    std::printf("round %d rank %d: %s differs at byte %zu of %zu: %02x instead of %02x\n", round, rank, what, at, bytes,
                static_cast<const uint8_t *>(b)[at], static_cast<const uint8_t *>(a)[at]);
}

moe_a2a_mapping mappingOf(const Options &o) { return {o.kind, o.tile, o.splits, o.blocks, o.slotsBy}; }

// One of the rounds that follow one another without the host in between, each with what the last one came to.
struct Link {
  int m;
  bool isFirst;     // with slots
  bool hasExperts;  // else what came is combined as it is
  bool inPlace;
};

void enqueueDispatch(World &w, const Options &o, int r, int lane, int m, int tokens, bool onDevice,
                     bool again = false) {
  RankMemory &mem = w.ranks[r];
  moe_a2a_dispatch_args d{};
  d.struct_size = sizeof(d);
  d.lane = lane;
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

uint64_t alignUp(uint64_t n) { return (n + 255) / 256 * 256; }

void enqueueExperts(World &w, const Options &o, int r, int lane, const Link &link) {
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

void enqueueCombine(World &w, const Options &o, int r, int lane, const Link &link) {
  RankMemory &mem = w.ranks[r];
  const auto &at = w.layout.lanes[lane];
  moe_a2a_combine_args c{};
  c.struct_size = sizeof(c);
  c.lane = lane;
  c.expert_output = !link.hasExperts ? mem.window + at.recv
                    : link.inPlace   ? mem.window + at.combine
                                     : reinterpret_cast<uint64_t>(mem.offered);
  c.hidden_size = o.hidden;
  c.dtype = c.out_dtype = MOE_A2A_BFLOAT16;
  c.output = reinterpret_cast<uint64_t>(mem.output);
  c.mapping = mappingOf(o);
  CHECK_A2A(moe_a2a_combine(mem.rank, &c));
}

// What rank `r` sends: the tokens for each rank, in order.
std::vector<std::vector<int>> routed(const World &w, const Options &o, const Inputs &in) {
  std::vector<std::vector<int>> to(o.ranks);
  for (int t = 0; t < in.tokens; t++) {
    uint64_t seen = 0;
    for (int k = 0; k < o.topK; k++) {
      const int id = in.ids[static_cast<size_t>(t) * o.topK + k];
      if (id < 0 || seen >> w.owner(id) & 1) continue;
      seen |= 1ull << w.owner(id);
      to[w.owner(id)].push_back(t);
    }
  }
  return to;
}

// What a round comes to for a rank: [tokens, hidden].
std::vector<uint16_t> combined(const World &w, const Options &o, const Inputs &in, bool hasExperts) {
  std::vector<uint16_t> output(in.hidden.size());
  for (int t = 0; t < in.tokens; t++) {
    for (int h = 0; h < o.hidden; h++) {
      const float x = widen(in.hidden[static_cast<size_t>(t) * o.hidden + h]);
      float sum = 0.0f;
      uint64_t seen = 0;
      for (int k = 0; k < o.topK; k++) {
        const int id = in.ids[static_cast<size_t>(t) * o.topK + k];
        if (id < 0 || seen >> w.owner(id) & 1) continue;
        seen |= 1ull << w.owner(id);
        sum += hasExperts ? widen(roundToBf16(x / static_cast<float>(1 << w.owner(id) % 4))) : x;
      }
      output[static_cast<size_t>(t) * o.hidden + h] = roundToBf16(sum);
    }
  }
  return output;
}

void verify(World &w, const Options &o, const std::vector<Inputs> &in, const Link &link, int lane, int round) {
  const int m = link.m;
  std::vector<std::vector<std::vector<int>>> to;
  for (const Inputs &i : in) to.push_back(routed(w, o, i));
  const auto &at = w.layout.lanes[lane];
  for (int d = 0; d < o.ranks; d++) {
    RankMemory &mem = w.ranks[d];
    CHECK_CUDA(cudaSetDevice(mem.device));
    moe_a2a_phase_outcome outcome{};
    outcome.struct_size = sizeof(outcome);
    for (int phase = 0; phase < 2; phase++) {
      CHECK_A2A(moe_a2a_outcome(mem.rank, lane, phase, 0xfffffffeu + round, &outcome));
      if (!outcome.completed && failures++ < 10)
        std::printf("round %d rank %d phase %d failed: code %d by %d missing %llx kind %d\n", round, d, phase,
                    outcome.failure.code, outcome.failure.found_by, (unsigned long long)outcome.failure.missing_mask,
                    outcome.failure.kind);
    }
    const auto counts = download<int32_t>(mem.own + at.recv_counts, o.ranks);
    const auto stats = download<int32_t>(mem.own + at.gathered_stats, static_cast<size_t>(o.ranks) * o.stats);
    const uint64_t idsAt = at.recv + alignUp(static_cast<uint64_t>(o.ranks) * m * o.hidden * 2),
                   extraAt = idsAt + alignUp(static_cast<uint64_t>(o.ranks) * m * o.topK * 4);
    const auto hidden = download<uint16_t>(mem.window + at.recv, static_cast<size_t>(o.ranks) * m * o.hidden);
    const auto ids = download<int32_t>(mem.window + idsAt, static_cast<size_t>(o.ranks) * m * o.topK);
    const auto extra = download<uint8_t>(mem.window + extraAt, static_cast<size_t>(o.ranks) * m * o.extra);
    for (int s = 0; s < o.ranks; s++) {
      const int expected = static_cast<int>(to[s][d].size());
      expectEqual(&expected, &counts[s], 4, "recvCounts", round, d);
      if (o.stats)
        expectEqual(in[s].stats.data(), &stats[static_cast<size_t>(s) * o.stats], o.stats * 4, "expertStats", round, d);
      for (int j = 0; j < m; j++) {
        const size_t slot = static_cast<size_t>(s) * m + j;
        if (j < expected) {
          const int t = to[s][d][j];
          expectEqual(&in[s].hidden[static_cast<size_t>(t) * o.hidden], &hidden[slot * o.hidden], o.hidden * 2,
                      "hidden", round, d);
          expectEqual(&in[s].ids[static_cast<size_t>(t) * o.topK], &ids[slot * o.topK], o.topK * 4, "ids", round, d);
          if (o.extra)
            expectEqual(&in[s].extra[static_cast<size_t>(t) * o.extra], &extra[slot * o.extra], o.extra, "extra", round,
                        d);
        } else {
          const std::vector<int32_t> padding(o.topK, -3);
          expectEqual(padding.data(), &ids[slot * o.topK], o.topK * 4, "padding ids", round, d);
          const std::vector<uint8_t> filled(o.extra, 0xff);
          if (o.extra) expectEqual(filled.data(), &extra[slot * o.extra], o.extra, "padding", round, d);
        }
      }
    }
    const auto output =
        download<uint16_t>(reinterpret_cast<uint64_t>(mem.output), static_cast<size_t>(in[d].tokens) * o.hidden);
    const auto expected = combined(w, o, in[d], link.hasExperts);
    expectEqual(expected.data(), output.data(), expected.size() * 2, "output", round, d);
  }
}

// The rounds of a chain; the last has the slots that it has to have for what it is about.
std::vector<Link> chainOf(const Options &o, int m, int most, std::mt19937 &random) {
  std::vector<Link> chain;
  bool isFirst = true;
  for (int i = 1; i <= o.chained; i++) {
    const bool isLast = i == o.chained, isEmpty = m == 0 || (!isLast && random() % 4 == 0);
    const int slots = isEmpty  ? 0
                      : isLast ? m
                               : std::max(1, most + static_cast<int>(random() % (o.capacity - most + 1)));
    chain.push_back({slots, isFirst && slots > 0, o.chained == 1 || random() % 3 == 0, random() % 2 == 0});
    isFirst = isFirst && slots == 0;
  }
  return chain;
}

void correctness(const Options &o, int devices) {
  World w(o.ranks, o.experts, o.topK, o.capacity, o.hidden, o.extra, o.stats, devices, o.lanes, 1, 5000, o.wire,
          o.maxSms, o.alone);
  std::mt19937 random(static_cast<unsigned>(o.seed));
  for (int round = 0; round < o.rounds; round++) {
    const int lane = 0;
    const int m = random() % 6 == 0 ? 0 : static_cast<int>(random() % (o.capacity + 1));
    const bool onDevice = o.deviceCount || random() % 4 == 0;
    // Rounds with statistics do not go in packets.
    Options said = o;
    if (random() % 2) said.stats = 0;
    std::vector<Inputs> in;
    for (int r = 0; r < o.ranks; r++) {
      in.push_back(randomInputs(said, m, random));
      RankMemory &mem = w.ranks[r];
      if (o.delays) {
        moe_a2a_delays d{};
        d.struct_size = sizeof(d);
        for (auto *each : {d.before_stores, d.before_flag, d.after_flag, d.after_wait}) {
          for (int phase = 0; phase < 2; phase++)
            each[phase] = random() % 8 == 0 ? random() % static_cast<unsigned>(o.delays) : 0;
        }
        CHECK_A2A(moe_a2a_set_delays(mem.rank, &d));
      }
      CHECK_CUDA(cudaSetDevice(mem.device));
      upload(mem.ids, in[r].ids, mem.stream);
      upload(mem.hidden, in[r].hidden, mem.stream);
      upload(mem.extra, in[r].extra, mem.stream);
      upload(mem.stats, in[r].stats, mem.stream);
      upload(mem.count, std::vector<int32_t>{in[r].tokens}, mem.stream);
    }
    int most = 0;
    for (const Inputs &i : in) most = std::max(most, i.tokens);
    const auto chain = chainOf(o, m, most, random);
    // In another order each round: no rank may depend on who comes first.
    for (int i = 0; i < o.ranks; i++) {
      const int r = (i + round) % o.ranks;
      for (const Link &link : chain) {
        const bool counts = onDevice && link.m > 0;
        enqueueDispatch(w, said, r, lane, link.m, link.m ? in[r].tokens : 0, counts, !link.isFirst);
        enqueueExperts(w, o, r, lane, link);
        enqueueCombine(w, o, r, lane, link);
      }
    }
    for (RankMemory &mem : w.ranks) CHECK_A2A(moe_a2a_drain(mem.rank));
    for (size_t i = 0; i + 1 < chain.size(); i++) {
      if (chain[i].m == 0) continue;
      for (Inputs &each : in) each.hidden = combined(w, o, each, chain[i].hasExperts);
    }
    verify(w, said, in, chain.back(), lane, (round + 1) * o.chained - 1);
    if (failures > 20) break;
  }
}

void timing(const Options &o, int devices) {
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
    CHECK_A2A(moe_a2a_capture_begin(mem.device, mem.stream));
    for (int i = 0; i < kRounds; i++) {
      enqueueDispatch(w, plain, r, 0, m, o.ramp ? T * (r + 1) / o.ranks : T, false);
      enqueueCombine(w, plain, r, 0, {m, true, true, true});
    }
    CHECK_A2A(moe_a2a_capture_end(mem.device, mem.stream, &graphs[r]));
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
  for (int which = 0; which < 2; which++) {
    long long clocks[32] = {};
    CHECK_CUDA(cudaSetDevice(0));
    if (which == 0) moe_a2a_trace_dispatch(clocks);
    else moe_a2a_trace_combine(clocks);
    std::printf(which ? "  combine :" : "  dispatch:");
    for (int i = 2; i < (which ? 7 : 11); i++) std::printf(" %lld", clocks[i] - clocks[1]);
    if (which == 0) moe_a2a_trace_dispatch_packets(clocks);
    else moe_a2a_trace_combine_packets(clocks);
    std::printf("; in packets:");
    for (int b = 0; b < 32; b += 16) {
      std::printf(b ? " | last" : "");
      for (int i = 2; i < 11; i++) std::printf(" %lld", clocks[b + i] ? clocks[b + i] - clocks[b + 1] : 0);
    }
    std::printf("\n");
  }
  long long clocks[32] = {};
  moe_a2a_trace_combine_push(clocks);
  std::printf("  by push:");
  for (int b = 0; b < 32; b += 16) {
    for (int i = 2; i < 7; i++) std::printf(" %lld", clocks[b + i] ? clocks[b + i] - clocks[b + 1] : 0);
    std::printf(b ? "\n" : " | last");
  }
#endif
  for (int r = 0; r < o.ranks; r++) CHECK_A2A(moe_a2a_graph_destroy(w.ranks[r].device, graphs[r]));
}

}  // namespace

int main(int argc, char **argv) {
  Options o;
  const std::pair<const char *, int *> known[] = {
      {"--ranks", &o.ranks},       {"--experts", &o.experts},  {"--topk", &o.topK},
      {"--capacity", &o.capacity}, {"--hidden", &o.hidden},    {"--extra", &o.extra},
      {"--stats", &o.stats},       {"--rounds", &o.rounds},    {"--seed", &o.seed},
      {"--kind", &o.kind},         {"--slots-by", &o.slotsBy}, {"--splits", &o.splits},
      {"--tile", &o.tile},         {"--blocks", &o.blocks},    {"--device-count", &o.deviceCount},
      {"--time", &o.time},         {"--lanes", &o.lanes},      {"--tokens", &o.tokens},
      {"--delays", &o.delays},     {"--wire", &o.wire},        {"--sms", &o.maxSms},
      {"--ramp", &o.ramp},         {"--alone", &o.alone},      {"--chained", &o.chained}};
  for (int i = 1; i + 1 < argc; i += 2) {
    bool found = false;
    for (const auto &[name, value] : known) {
      if (std::strcmp(argv[i], name) == 0) *value = std::atoi(argv[i + 1]), found = true;
    }
    if (!found) {
      std::fprintf(stderr, "unknown option %s\n", argv[i]);
      return 2;
    }
  }
  // A kernel that is loaded at its first launch would wait for those that wait for peers.
  setenv("CUDA_MODULE_LOADING", "EAGER", 1);
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no GPU: nothing was run\n");
    return 0;
  }
  if (o.time) timing(o, devices);
  else correctness(o, devices);
  if (!o.time)
    std::printf(
        "ranks %d devices %d rounds %d hidden %d topk %d kind %d slots-by %d splits %d tile %d blocks %d delays %d: "
        "%s\n",
        o.ranks, devices, o.rounds, o.hidden, o.topK, o.kind, o.slotsBy, o.splits, o.tile, o.blocks, o.delays,
        failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
