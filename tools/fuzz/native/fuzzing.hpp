// What the programs here share: numbers by seed, open descriptors, messages as a stranger would make them.
#pragma once

#include <dirent.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "fd_messages.hpp"

namespace fuzzing {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t below(uint64_t limit) { return engine_() % limit; }
  uint8_t byte() { return static_cast<uint8_t>(engine_()); }
  template <typename T>
  const T &pick(const std::vector<T> &from) {
    return from[below(from.size())];
  }

 private:
  std::mt19937_64 engine_;
};

[[noreturn]] inline void fail(const char *what, uint64_t at) {
  std::printf("FAILED: %s, at %llu\n", what, static_cast<unsigned long long>(at));
  std::exit(1);
}

inline int openDescriptors() {
  DIR *folder = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(folder) != nullptr) count++;
  closedir(folder);
  return count;
}

inline uint64_t argument(int count, char **values, int index, uint64_t otherwise) {
  return count > index ? std::strtoull(values[index], nullptr, 10) : otherwise;
}

// Written down anew: magic, rank, token.
constexpr uint32_t kHello = 0x61326148;
constexpr size_t kHelloBytes = 40;
// Magic, bytes, descriptors, token; then the bytes.
constexpr uint32_t kGift = 0x61326147;
constexpr size_t kGiftHead = 44;
constexpr size_t kMostGiftBytes = 256;

using Bytes = std::vector<uint8_t>;

inline void append(Bytes &to, const void *data, size_t count) {
  const auto *from = static_cast<const uint8_t *>(data);
  to.insert(to.end(), from, from + count);
}

inline Bytes helloOf(int32_t rank, const moe_a2a_addon::ShareToken &token) {
  Bytes bytes;
  append(bytes, &kHello, sizeof kHello);
  append(bytes, &rank, sizeof rank);
  append(bytes, token.data(), token.size());
  return bytes;
}

inline Bytes giftOf(const moe_a2a_addon::ShareToken &token, const Bytes &content, uint32_t fds) {
  const auto length = static_cast<uint32_t>(content.size());
  Bytes bytes;
  append(bytes, &kGift, sizeof kGift);
  append(bytes, &length, sizeof length);
  append(bytes, &fds, sizeof fds);
  append(bytes, token.data(), token.size());
  append(bytes, content.data(), content.size());
  return bytes;
}

// Spoils a message in one to three ways.
inline void spoil(Bytes &message, Random &random) {
  static const std::vector<uint32_t> words = {0,   1,   2,        39,       40,         255,
                                              256, 257, 1u << 30, 1u << 31, 0x7fffffff, 0xffffffff};
  for (uint64_t ways = 1 + random.below(3); ways > 0; ways--) {
    switch (random.below(6)) {
      case 0:
        message.resize(random.below(message.size() + 1));
        break;
      case 1:
        for (uint64_t more = 1 + random.below(random.below(8) == 0 ? 70'000 : 400); more > 0; more--)
          message.push_back(random.byte());
        break;
      case 2:
        if (!message.empty()) message[random.below(message.size())] ^= static_cast<uint8_t>(1u << random.below(8));
        break;
      case 3:
        for (uint8_t &byte : message) byte = random.byte();
        break;
      default: {
        // A word of the head.
        const size_t at = 4 * random.below(4);
        const uint32_t word = random.pick(words);
        if (at + sizeof word <= message.size()) std::memcpy(message.data() + at, &word, sizeof word);
      }
    }
  }
}

// Sends bytes with as many descriptors, of standard input. False where that cannot be sent.
inline bool sendRaw(int socket, const Bytes &bytes, size_t fds) {
  constexpr size_t kMost = 8;
  int some[kMost] = {};
  iovec part{const_cast<uint8_t *>(bytes.data()), bytes.size()};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof some)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fds > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds);
    std::memcpy(CMSG_DATA(rights), some, sizeof(int) * fds);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(bytes.size());
}

}  // namespace fuzzing
