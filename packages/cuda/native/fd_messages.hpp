// What ranks of one host say to one another over local sockets, and the descriptors that go with it. Nothing here knows
// of CUDA or Node.
#pragma once

#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace moe_a2a_addon {

// A file descriptor that is closed with its owner.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor &operator=(Descriptor &&other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { reset(); }
  void reset() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }
  bool isOpen() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Shown by whoever may talk to a rank; told to the others beforehand.
using ShareToken = std::array<uint8_t, 32>;
// 128 random bits in hexadecimal digits, which name a rank's socket.
constexpr size_t kShareNameChars = 32;

bool isShareName(const std::string &name);
bool areEqual(const ShareToken &a, const ShareToken &b);

// Each of these returns 0 or an errno. Sockets are non-blocking, and keep messages apart.
int makeSecrets(std::string *name, ShareToken *token);
int listenAt(const std::string &name, Descriptor *socket);
int connectTo(const std::string &name, Descriptor *socket);
int acceptFrom(int listener, Descriptor *socket);
int sayHello(int socket, int rank, const ShareToken &token);

// What a rank gives to another: some bytes, and a descriptor or none.
struct Gift {
  static constexpr size_t kMaxBytes = 256;
  std::vector<uint8_t> bytes;
  Descriptor fd;
};
int give(int socket, const ShareToken &token, const std::vector<uint8_t> &bytes, int fd);

// Whether the process at the other end is one of this user's.
bool isOfSameUser(int socket);

// kWrong: whatever came is no message of this kind, or the other end has closed.
enum class Heard { kNothing, kMessage, kWrong };
struct Hello {
  int rank = -1;
  ShareToken token{};
};
Heard hearHello(int socket, Hello *hello);
Heard takeGift(int socket, ShareToken *token, Gift *gift);

}  // namespace moe_a2a_addon
