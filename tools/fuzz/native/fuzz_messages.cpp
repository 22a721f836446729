// Spoiled hellos, gifts and goodbyes over real sockets: each is taken for what it is, and no descriptor stays open.
// fuzz_messages [MESSAGES] [SEED]
#include "fuzzing.hpp"
#include "peer_lines.hpp"

using namespace fuzzing;
using moe_a2a_addon::Descriptor;
using moe_a2a_addon::Gift;
using moe_a2a_addon::Heard;
using moe_a2a_addon::Hello;
using moe_a2a_addon::PeerLine;
using moe_a2a_addon::PeerLines;
using moe_a2a_addon::ShareToken;

namespace {

struct Pair {
  Descriptor ours, theirs;
  Pair() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) fail("no sockets", 0);
    ours = Descriptor(ends[0]);
    theirs = Descriptor(ends[1]);
  }
};

template <typename T>
T wordAt(const Bytes &bytes, size_t at) {
  T word;
  std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

bool tokenIs(const Bytes &bytes, size_t at, const ShareToken &token) {
  return std::memcmp(bytes.data() + at, token.data(), token.size()) == 0;
}

bool isHello(const Bytes &bytes) { return bytes.size() == kHelloBytes && wordAt<uint32_t>(bytes, 0) == kHello; }

bool isGift(const Bytes &bytes, size_t fds) {
  return bytes.size() >= kGiftHead && bytes.size() <= kGiftHead + kMostGiftBytes &&
         wordAt<uint32_t>(bytes, 0) == kGift && wordAt<uint32_t>(bytes, 4) == bytes.size() - kGiftHead && fds <= 1 &&
         wordAt<uint32_t>(bytes, 8) == fds;
}

void hear(int socket, const Bytes &sent, uint64_t at) {
  Hello hello;
  const Heard heard = moe_a2a_addon::hearHello(socket, &hello);
  if (heard != (isHello(sent) ? Heard::kMessage : Heard::kWrong)) fail("a hello is not told from what is none", at);
  if (heard == Heard::kMessage && (hello.rank != wordAt<int32_t>(sent, 4) || !tokenIs(sent, 8, hello.token)))
    fail("a hello says something else", at);
}

void take(int socket, const Bytes &sent, size_t fds, uint64_t at) {
  ShareToken token;
  Gift gift;
  const Heard heard = moe_a2a_addon::takeGift(socket, &token, &gift);
  if (heard != (isGift(sent, fds) ? Heard::kMessage : Heard::kWrong)) fail("a gift is not told from what is none", at);
  if (heard != Heard::kMessage) return;
  if (!tokenIs(sent, 12, token) || gift.bytes != Bytes(sent.begin() + kGiftHead, sent.end()) ||
      gift.fd.isOpen() != (fds == 1))
    fail("a gift is something else", at);
}

// Whatever comes over a line, the rank at its other end has closed, is lost, or is there.
void look(Random &random, uint64_t at) {
  Pair pair;
  std::vector<PeerLine> lines(2);
  lines[1].watched = std::move(pair.ours);
  PeerLines watched(std::move(lines));
  const bool goodbye = random.below(2) == 0;
  const bool leaves = random.below(2) == 0;
  Bytes word(goodbye ? 1 : 1 + random.below(300), goodbye ? 'b' : 'x');
  const bool speaks = random.below(4) != 0 && sendRaw(pair.theirs.get(), word, random.below(4));
  if (leaves) pair.theirs.reset();
  watched.look();
  watched.sayGoodbye();
  const uint64_t closed = speaks && goodbye ? 2 : 0;
  const uint64_t lost = (speaks && !goodbye) || (!speaks && leaves) ? 2 : 0;
  if (watched.closed() != closed || watched.lost() != lost) fail("a line tells something else", at);
}

Bytes messageOf(Random &random) {
  ShareToken token;
  for (uint8_t &byte : token) byte = random.byte();
  if (random.below(2) == 0) return helloOf(static_cast<int32_t>(random.below(70)) - 2, token);
  Bytes content(random.below(kMostGiftBytes + 1));
  for (uint8_t &byte : content) byte = random.byte();
  return giftOf(token, content, static_cast<uint32_t>(random.below(2)));
}

}  // namespace

int main(int count, char **values) {
  const uint64_t messages = argument(count, values, 1, 1'000'000);
  const uint64_t seed = argument(count, values, 2, 1);
  const int before = openDescriptors();
  uint64_t right = 0;
  for (uint64_t at = 0; at < messages; at++) {
    // By number, so that one that fails can be looked at alone.
    Random random(seed * 1'000'000'007 + at);
    if (random.below(8) == 0) {
      look(random, at);
      continue;
    }
    const Pair pair;
    Bytes message = messageOf(random);
    size_t fds = random.below(4) == 0 ? random.below(9) : random.below(2);
    if (random.below(4) != 0) spoil(message, random);
    if (!sendRaw(pair.theirs.get(), message, fds)) fail("cannot send", at);
    if (random.below(2) == 0) {
      hear(pair.ours.get(), message, at);
      right += isHello(message);
    } else {
      take(pair.ours.get(), message, fds, at);
      right += isGift(message, fds);
    }
    if (at % 1000 == 0 && openDescriptors() != before + 2) fail("descriptors stay open", at);
  }
  if (openDescriptors() != before) fail("descriptors stay open", messages);
  std::printf("{\"messages\":%llu,\"right\":%llu,\"seed\":%llu}\n", static_cast<unsigned long long>(messages),
              static_cast<unsigned long long>(right), static_cast<unsigned long long>(seed));
}
