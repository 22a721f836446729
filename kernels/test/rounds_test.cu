// Random rounds against a reference on the CPU, byte for byte; and, with --time, how long phases take.
#include "occupied.cuh"
#include "rounds_timing.cuh"

namespace {

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

uint64_t alignUp(uint64_t n) { return (n + 255) / 256 * 256; }

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
  Occupant others(w, o.occupied);
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
      // Some ranks have begun, or none.
      if (i == round % 2) others.begin();
      const int r = (i + round) % o.ranks;
      for (const Link &link : chain) {
        const bool counts = onDevice && link.m > 0;
        enqueueDispatch(w, said, r, lane, link.m, link.m ? in[r].tokens : 0, counts, !link.isFirst);
        enqueueExperts(w, o, r, lane, link);
        enqueueCombine(w, o, r, lane, link);
      }
    }
    others.look();
    for (RankMemory &mem : w.ranks) CHECK_A2A(moe_a2a_drain(mem.rank));
    for (size_t i = 0; i + 1 < chain.size(); i++) {
      if (chain[i].m == 0) continue;
      for (Inputs &each : in) each.hidden = combined(w, o, each, chain[i].hasExperts);
    }
    verify(w, said, in, chain.back(), lane, (round + 1) * o.chained - 1);
    if (failures > 20) break;
  }
  if (!others.wasThere()) {
    std::printf("no other kernel held the GPUs for long enough\n");
    failures++;
  }
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
      {"--ramp", &o.ramp},         {"--alone", &o.alone},      {"--chained", &o.chained},
      {"--occupied", &o.occupied}};
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
  if (o.time) failures += timing(o, devices);
  else correctness(o, devices);
  if (!o.time)
    std::printf(
        "ranks %d devices %d rounds %d hidden %d topk %d kind %d slots-by %d splits %d tile %d blocks %d delays %d: "
        "%s\n",
        o.ranks, devices, o.rounds, o.hidden, o.topK, o.kind, o.slotsBy, o.splits, o.tile, o.blocks, o.delays,
        failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
