// Ranks on threads that give one another descriptors while strangers call who do not know their tokens: nobody gets
// anything wrong. Then liars among the ranks, with whom an exchange may fail, but ends. fuzz_exchange [EXCHANGES]
// [SEED]
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "fd_exchange.hpp"
#include "fuzzing.hpp"

using namespace fuzzing;
using moe_a2a_addon::Descriptor;
using moe_a2a_addon::FdExchange;
using moe_a2a_addon::Hello;
using moe_a2a_addon::PeerLines;
using moe_a2a_addon::ShareToken;
using std::chrono::milliseconds;
using End = FdExchange::End;

namespace {

struct World {
  std::vector<std::unique_ptr<FdExchange>> ranks;
  std::vector<FdExchange::Peer> peers;

  explicit World(size_t size) {
    for (size_t r = 0; r < size; r++) {
      ranks.push_back(std::make_unique<FdExchange>());
      if (ranks.back()->open() != 0) fail("a rank cannot listen", r);
      peers.push_back({ranks.back()->name(), ranks.back()->token()});
    }
  }
  FdExchange::Outcome run(size_t r, milliseconds timeout) {
    // Standard input stands for memory.
    return ranks[r]->run(static_cast<int>(r), peers, Bytes(40, static_cast<uint8_t>(r)), 0, timeout);
  }
};

bool hasAll(const FdExchange::Outcome &outcome, size_t rank) {
  if (outcome.end != End::kDone || outcome.missing != 0) return false;
  for (size_t r = 0; r < outcome.gifts.size(); r++) {
    if (r == rank) continue;
    const auto &gift = outcome.gifts[r];
    if (gift.bytes != Bytes(40, static_cast<uint8_t>(r)) || !gift.fd.isOpen()) return false;
  }
  return true;
}

ShareToken anyToken(Random &random) {
  ShareToken token;
  for (uint8_t &byte : token) byte = random.byte();
  return token;
}

// Somebody who calls; a stranger's tokens are wrong, or its ranks are none.
Descriptor bother(const World &world, Random &random, bool knowsTokens) {
  const size_t at = random.below(world.peers.size());
  Descriptor line;
  if (connectTo(world.peers[at].name, &line) != 0) return line;
  const bool isRank = knowsTokens || random.below(2) == 0;
  const auto rank = static_cast<int32_t>(isRank ? random.below(world.peers.size())
                                                : (random.below(2) == 0 ? -1 - random.below(9) : 64 + random.below(9)));
  Bytes hello = helloOf(rank, knowsTokens || !isRank ? world.peers[at].token : anyToken(random));
  const bool isSpoiled = random.below(3) != 0;
  if (isSpoiled) spoil(hello, random);
  // Spoiling may have made a right hello of a wrong one.
  if (isSpoiled && !knowsTokens && hello.size() == kHelloBytes) hello[kHelloBytes - 1] = world.peers[at].token[31] ^ 1;
  if (random.below(8) != 0) sendRaw(line.get(), hello, random.below(4) == 0 ? random.below(5) : 0);
  return line;
}

void amongStrangers(Random &random, uint64_t at) {
  World world(2 + random.below(4));
  std::atomic<bool> isOver{false};
  const uint64_t seed = random.below(UINT64_MAX);
  std::thread stranger([&] {
    Random own(seed);
    std::vector<Descriptor> lines;
    while (!isOver && lines.size() < 300) lines.push_back(bother(world, own, false));
  });
  std::vector<FdExchange::Outcome> outcomes(world.ranks.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < outcomes.size(); r++)
    threads.emplace_back([&, r] { outcomes[r] = world.run(r, milliseconds(60'000)); });
  for (std::thread &thread : threads) thread.join();
  isOver = true;
  stranger.join();
  for (size_t r = 0; r < outcomes.size(); r++) {
    if (!hasAll(outcomes[r], r)) fail("a rank did not get what the others gave", at);
    PeerLines lines(std::move(outcomes[r].lines));
    lines.look();
    if (random.below(2) == 0) lines.sayGoodbye();
  }
}

// The last rank is one who knows all tokens, and says anything.
void amongLiars(Random &random) {
  World world(2 + random.below(3));
  const size_t liar = world.peers.size() - 1;
  world.ranks[liar].reset();
  Descriptor listener;
  if (listenAt(world.peers[liar].name, &listener) != 0) fail("a name that is free cannot be taken", liar);
  std::atomic<size_t> running{liar};
  std::vector<std::thread> threads;
  for (size_t r = 0; r < liar; r++) {
    threads.emplace_back([&, r] {
      world.run(r, milliseconds(30 + 10 * r));
      running--;
    });
  }
  std::vector<Descriptor> lines;
  while (running > 0) {
    if (lines.size() < 200) lines.push_back(bother(world, random, true));
    Descriptor caller;
    Hello hello;
    if (acceptFrom(listener.get(), &caller) != 0) {
      std::this_thread::sleep_for(milliseconds(1));
      continue;
    }
    moe_a2a_addon::hearHello(caller.get(), &hello);
    const ShareToken &token = world.peers[random.below(world.peers.size())].token;
    Bytes gift = giftOf(random.below(4) == 0 ? anyToken(random) : token, Bytes(random.below(257)), 1);
    if (random.below(2) == 0) spoil(gift, random);
    sendRaw(caller.get(), gift, random.below(4));
    lines.push_back(std::move(caller));
  }
  for (std::thread &thread : threads) thread.join();
}

}  // namespace

int main(int count, char **values) {
  const uint64_t exchanges = argument(count, values, 1, 1'000);
  const uint64_t seed = argument(count, values, 2, 1);
  const int before = openDescriptors();
  uint64_t withLiars = 0;
  for (uint64_t at = 0; at < exchanges; at++) {
    Random random(seed * 1'000'000'007 + at);
    if (random.below(4) == 0) {
      amongLiars(random);
      withLiars++;
    } else amongStrangers(random, at);
    if (openDescriptors() != before) fail("descriptors stay open", at);
  }
  std::printf("{\"exchanges\":%llu,\"withLiars\":%llu,\"seed\":%llu}\n", static_cast<unsigned long long>(exchanges),
              static_cast<unsigned long long>(withLiars), static_cast<unsigned long long>(seed));
}
