// Waiting for the messages of all active peers, never for longer than the time limit, and comparing what they say.
#pragma once

#include "suspects.cuh"

namespace moe_a2a {

constexpr int kMaxWords = kDispatchPackets * 3;
constexpr int kLooksPerTurn = 8;
// Looks for what is about to come.
constexpr int kSoon = 64;

// What a block that waits keeps in shared memory.
struct WaitState {
  uint32_t said[kMaxWords];           // by this rank
  int32_t counts[MOE_A2A_MAX_RANKS];  // of the rows from each rank
  int32_t pieces[MOE_A2A_MAX_RANKS];  // that flags vouch for
  int32_t flags[MOE_A2A_MAX_RANKS];   // places where these may come
  uint64_t missing;
  uint32_t differing;
  int32_t goesOn;
};

// What has come of waiting.
enum Waited { kFailed, kArrived, kNotYet };
constexpr int kForEver = 0;

// Fields in the order in which a disagreement is reported; word -1 is the packets' round.
struct Field {
  int id;
  int firstWord;
  int words;
};
__device__ constexpr Field kDispatchFields[] = {
    {MOE_A2A_FIELD_GENERATION, kWordGeneration, 1},
    {MOE_A2A_FIELD_ROUND, -1, 1},
    {MOE_A2A_FIELD_MAX_TOKENS, kWordMaxTokens, 1},
    {MOE_A2A_FIELD_PAYLOAD_COUNT, kWordPayloadCount, 1},
    {MOE_A2A_FIELD_ROW_BYTES, kWordRowBytes, MOE_A2A_MAX_PAYLOADS},
    {MOE_A2A_FIELD_STATS_LENGTH, kWordStatsLength, 1},
};
__device__ constexpr Field kCombineFields[] = {
    {MOE_A2A_FIELD_GENERATION, kWordCombineGeneration, 1},
    {MOE_A2A_FIELD_ROUND, -1, 1},
    {MOE_A2A_FIELD_HIDDEN_SIZE, kWordHiddenSize, 1},
    {MOE_A2A_FIELD_DTYPE, kWordDtype, 1},
};

__device__ __forceinline__ const uint8_t *packetAt(const PhaseParams &p, const Messages &m, int source, int packet) {
  return p.window + m.headers + source * m.stride + packet * sizeof(Packet);
}

// The first threads, as many as there are ranks.
__device__ __forceinline__ void clearCounts(WaitState &wait) {
  wait.counts[threadIdx.x] = wait.pieces[threadIdx.x] = wait.flags[threadIdx.x] = 0;
}

// A word that changes when something happens meanwhile; there are kWatched of them.
constexpr int kWatched = 4;
class Eye {
 public:
  __device__ __forceinline__ Eye(const PhaseParams &p, const BlockState &block, int watched)
      : word_(watched == 0   ? controlWord(p, kAlarmWord)
              : watched == 1 ? &rankState(p)->failed
              : watched == 2 ? &rankState(p)->stopped
                             : controlWord(p, kGenerationWord)),
        quiet_(watched == 3 ? block.generation : 0) {}
  __device__ __forceinline__ bool sees() const { return loadRelaxedSys(word_) != quiet_; }

 private:
  const int32_t *word_;
  uint32_t quiet_;
};

// Those of `ranks` from which not all packets are here, even now. One warp.
template <int Packets>
__device__ uint64_t stillMissing(const PhaseParams &p, const BlockState &block, const Messages &m, uint64_t ranks) {
  fenceSys();
  const int laneId = threadIdx.x & 31;
  bool missing[2] = {false, false};
  for (int i = 0; i < 2; i++) {
    const int source = laneId + 32 * i;
    for (int packet = 0; ranks >> source & 1 && packet < Packets; packet++) {
      missing[i] |= earlier(loadPacket(packetAt(p, m, source, packet)).round, block.round);
    }
  }
  return maskOf(missing[0], missing[1]);
}

// Whether a word may differ between ranks: all of the packet that has the row count.
__device__ __forceinline__ bool isOwnWord(int word, int countWord) {
  return countWord >= 0 && word / 3 == countWord / 3;
}

// Keeps what the packet with the row count says.
__device__ __forceinline__ void keepCounts(const PhaseParams &p, const Packet &got, int source, WaitState &wait) {
  wait.counts[source] = min(max(static_cast<int32_t>(got.words[0]), 0), p.maxTokens);
  wait.pieces[source] = got.words[1];
  wait.flags[source] = min(max(static_cast<int32_t>(got.words[2]), 0), kPieces);
}

// Whether it is worth waiting on for the headers of `missing`; 0 where all are here. One warp.
template <int Packets>
__device__ __noinline__ bool goesOn(const PhaseParams &p, const BlockState &block, const Messages &m,
                                    uint64_t missing) {
  Suspects suspects;
  if (!investigate(p, block, m, missing, suspects)) return false;
  if (suspects.ranks) suspects.ranks = stillMissing<Packets>(p, block, m, suspects.ranks);
  if (suspects.ranks == 0) return true;
  blame(p, block, m, suspects);
  return false;
}

// Ranks disagree in some of the fields: tells the first of them, with every rank's value. One thread.
template <int Fields>
__device__ __noinline__ void failOnDisagreement(const PhaseParams &p, const BlockState &block, const Messages &m,
                                                const Field (&fields)[Fields], uint32_t differing) {
  const Field field = fields[__ffs(differing) - 1];
  const auto word = [&](int source, int w) -> int32_t {
    if (w < 0) return loadPacket(packetAt(p, m, source, 0)).round;
    return loadPacket(packetAt(p, m, source, w / 3)).words[w % 3];
  };
  fail(p, block.round, m.phase, MOE_A2A_FAIL_MISMATCH, true, [&](Finding &finding) {
    finding.field = field.id;
    finding.valuesMask = block.active;
    finding.valuesPerRank = field.words;
    for (int source = 0; source < p.ranks; source++) {
      if (!(block.active >> source & 1)) continue;
      const int payloads = field.id == MOE_A2A_FIELD_ROW_BYTES ? word(source, kWordPayloadCount) : field.words;
      for (int w = 0; w < field.words; w++) {
        finding.values[source * field.words + w] = w < payloads ? word(source, field.firstWord + w) : -1;
      }
    }
  });
}

// Which of the fields a packet's words belong to and differ in.
template <int Fields>
__device__ __noinline__ uint32_t differenceOf(const Packet &got, uint32_t round, int packet, const uint32_t *said,
                                              const Field (&fields)[Fields]) {
  uint32_t differing = 0;
#pragma unroll
  for (int f = 0; f < Fields; f++) {
    const Field field = fields[f];
    if (field.firstWord < 0) {
      if (got.round != round) differing |= 1u << f;
      continue;
    }
#pragma unroll
    for (int i = 0; i < 3; i++) {
      const int w = packet * 3 + i;
      const bool belongs = w >= field.firstWord && w < field.firstWord + field.words;
      if (belongs && got.words[i] != said[w]) differing |= 1u << f;
    }
  }
  return differing;
}

// Waits until the messages of all active ranks are here and agree with what this rank said, or the phase has failed.
// Whole block; `countWord` is the word with the row count, in a packet whose words ranks need not agree on, or -1.
// `waitNs` takes how long each rank was waited for. kNotYet after `patience` turns, if that is not 0.
template <int Packets, int Fields>
__device__ Waited awaitMessages(const PhaseParams &p, const BlockState &block, const Messages &m,
                                const Field (&fields)[Fields], int countWord, WaitState &wait, uint64_t *waitNs,
                                uint32_t patience) {
  const int thread = threadIdx.x;
  const int items = p.ranks * Packets;
  constexpr int kItems = (MOE_A2A_MAX_RANKS * Packets + kThreads - 1) / kThreads;
  bool pending[kItems];
#pragma unroll
  for (int i = 0; i < kItems; i++) {
    const int item = thread + i * kThreads;
    pending[i] = item < items && (block.active >> item / Packets & 1);
  }
  if (thread < p.ranks) {
    clearCounts(wait);
  }
  if (thread == kThreads - 1) {
    wait.differing = 0;
    wait.said[0] = block.generation;
  }
  __syncthreads();
  // Lanes of the last warp keep an eye on what may happen meanwhile, with one load.
  const int watched = thread - (kThreads - kWatched);
  const Eye eye(p, block, watched);
  uint32_t differing = 0, turns = 0;
  while (true) {
    bool waits, raised = false;
    // A warp looks several times before the block meets: what it waits for is mostly about to come.
    for (int look = 0; look < kLooksPerTurn; look++) {
      waits = false;
#pragma unroll
      for (int i = 0; i < kItems; i++) {
        if (!pending[i]) continue;
        const int item = thread + i * kThreads, source = item / Packets, packet = item % Packets;
        const Packet got = loadPacket(packetAt(p, m, source, packet));
        pending[i] = earlier(got.round, block.round);
        waits |= pending[i];
        if (pending[i]) continue;
          // Words that have to be equal; which of the fields differ is found out when some do.
#pragma unroll
        for (int w = 0; w < 3; w++) {
          const int word = packet * 3 + w;
          if (!isOwnWord(word, countWord) && got.words[w] != wait.said[word]) differing = 1;
        }
        if (got.round != block.round) differing = 1;
        if (countWord >= 0 && packet == countWord / 3) keepCounts(p, got, source, wait);
        if (waitNs && packet == 0) waitNs[source] = turns + look == 0 ? 0 : globalNanoseconds() - m.start;
      }
      if (!__any_sync(0xffffffff, waits)) break;
    }
    if (watched >= 0) raised = eye.sees();
    if (thread == kThreads - 33) raised = globalNanoseconds() - m.start > p.timeoutNs;
    // The barrier orders what any thread reads next after the packets that were acquired before it.
    const bool missing = __syncthreads_or(waits);
    if (__syncthreads_or(raised || (!missing && differing))) {
      if (!missing) break;
      if (thread == 0) wait.missing = 0;
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kItems; i++) {
        const int source = (thread + i * kThreads) / Packets;
        if (pending[i]) atomicOr(reinterpret_cast<unsigned long long *>(&wait.missing), 1ull << source);
      }
      __syncthreads();
      if (thread < 32) {
        const bool on = goesOn<Packets>(p, block, m, wait.missing);
        if (thread == 0) wait.goesOn = on;
      }
      __syncthreads();
      if (!wait.goesOn) return kFailed;
    } else if (!missing) {
      return kArrived;
    }
    turns++;
    if (turns == patience) return kNotYet;
    if (turns > 8) __nanosleep(20);
  }
  // All are here, but they disagree, or something else happened.
  for (int item = thread; differing && item < items; item += kThreads) {
    const int source = item / Packets, packet = item % Packets;
    if (!(block.active >> source & 1)) continue;
    const uint32_t found =
        differenceOf(loadPacket(packetAt(p, m, source, packet)), block.round, packet, wait.said, fields);
    if (found) atomicOr(&wait.differing, found);
  }
  __syncthreads();
  if (thread < 32) {
    const uint32_t fieldsDiffering = wait.differing;
    if (fieldsDiffering && thread == 0) failOnDisagreement(p, block, m, fields, fieldsDiffering);
    const bool on = !fieldsDiffering && goesOn<Packets>(p, block, m, 0);
    if (thread == 0) wait.goesOn = on;
  }
  __syncthreads();
  return wait.goesOn ? kArrived : kFailed;
}

// The same where messages are about to come: true where they came soon and all is well; else it has to be waited for as
// above. `Vouch`: what is read later is ordered after them. The counts are 0 before. Whole block.
template <int Packets, bool Vouch>
__device__ __forceinline__ bool comesSoon(const PhaseParams &p, const BlockState &block, const Messages &m,
                                          int countWord, WaitState &wait, uint64_t *waitNs) {
  const int item = threadIdx.x, source = item / Packets, packet = item - source * Packets;
  const bool isAwaited = item < p.ranks * Packets && (block.active >> source & 1);
  const int watched = item - (kThreads - kWatched);
  bool isFine = p.ranks * Packets <= kThreads - kWatched;
  if (isAwaited) {
    const uint8_t *from = packetAt(p, m, source, packet);
    Packet got{block.round - 1, {}};
    int looks = 0;
    for (; looks < kSoon && earlier(got.round, block.round); looks++) got = Vouch ? loadPacket(from) : peekPacket(from);
    isFine &= got.round == block.round;
#pragma unroll
    for (int i = 0; i < 3; i++) {
      const int w = packet * 3 + i;
      const uint32_t expected = w == 0 ? block.generation : wait.said[w];
      isFine &= isOwnWord(w, countWord) || got.words[i] == expected;
    }
    if (countWord >= 0 && packet == countWord / 3) keepCounts(p, got, source, wait);
    if (waitNs && packet == 0) waitNs[source] = looks == 1 ? 0 : globalNanoseconds() - m.start;
  }
  if (watched >= 0) isFine &= !Eye(p, block, watched).sees();
  isFine = __syncthreads_and(isFine);
  if (isFine) delay(p.delays.afterWait);
  return isFine;
}

}  // namespace moe_a2a
