#include "fd_messages.hpp"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace moe_a2a_addon {

namespace {

constexpr uint32_t kHelloMagic = 0x61326148;
constexpr uint32_t kGiftMagic = 0x61326147;

struct HelloMessage {
  uint32_t magic;
  int32_t rank;
  ShareToken token;
};
struct GiftMessage {
  uint32_t magic;
  uint32_t byteCount;
  uint32_t fdCount;
  ShareToken token;
  uint8_t bytes[Gift::kMaxBytes];
};
constexpr size_t kGiftHead = offsetof(GiftMessage, bytes);

int fillRandomly(void *target, size_t bytes) {
  auto *at = static_cast<uint8_t *>(target);
  while (bytes > 0) {
    const ssize_t got = getrandom(at, bytes, 0);
    if (got < 0 && errno != EINTR) return errno;
    if (got <= 0) continue;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return 0;
}

// In the abstract namespace, where names go with their sockets and nothing is left on disk.
socklen_t addressOf(const std::string &name, sockaddr_un &address) {
  const std::string path = "moe-a2a-" + name;
  address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
}

int makeSocket(const std::string &name, Descriptor *made) {
  if (!isShareName(name)) return EINVAL;
  *made = Descriptor(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return made->isOpen() ? 0 : errno;
}

int sendAll(int socket, const msghdr &message, size_t bytes) {
  const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) return errno;
  return static_cast<size_t>(sent) == bytes ? 0 : EMSGSIZE;
}

// Takes all descriptors out of a message, so that none stays open unseen.
std::vector<Descriptor> descriptorsOf(msghdr &message) {
  std::vector<Descriptor> found;
  for (cmsghdr *part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      found.emplace_back(fd);
    }
  }
  return found;
}

}  // namespace

bool isShareName(const std::string &name) {
  return name.size() == kShareNameChars && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Takes the same time wherever they differ.
bool areEqual(const ShareToken &a, const ShareToken &b) {
  volatile uint8_t differing = 0;
  for (size_t i = 0; i < a.size(); i++) differing = differing | (a[i] ^ b[i]);
  return differing == 0;
}

int makeSecrets(std::string *name, ShareToken *token) {
  uint8_t bits[kShareNameChars / 2];
  if (const int error = fillRandomly(bits, sizeof bits)) return error;
  name->clear();
  for (const uint8_t byte : bits) {
    for (const int digit : {byte >> 4, byte & 15}) name->push_back("0123456789abcdef"[digit]);
  }
  return fillRandomly(token->data(), token->size());
}

int listenAt(const std::string &name, Descriptor *listener) {
  if (const int error = makeSocket(name, listener)) return error;
  sockaddr_un address;
  const socklen_t bytes = addressOf(name, address);
  if (bind(listener->get(), reinterpret_cast<const sockaddr *>(&address), bytes) != 0) return errno;
  return listen(listener->get(), SOMAXCONN) == 0 ? 0 : errno;
}

int connectTo(const std::string &name, Descriptor *made) {
  if (const int error = makeSocket(name, made)) return error;
  sockaddr_un address;
  const socklen_t bytes = addressOf(name, address);
  return connect(made->get(), reinterpret_cast<const sockaddr *>(&address), bytes) == 0 ? 0 : errno;
}

int acceptFrom(int listener, Descriptor *caller) {
  *caller = Descriptor(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  return caller->isOpen() ? 0 : errno;
}

bool isOfSameUser(int socket) {
  ucred other{};
  socklen_t bytes = sizeof other;
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &other, &bytes) == 0 && bytes == sizeof other &&
         other.uid == geteuid();
}

int sayHello(int socket, int rank, const ShareToken &token) {
  HelloMessage hello{kHelloMagic, rank, token};
  iovec part{&hello, sizeof hello};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return sendAll(socket, message, sizeof hello);
}

int give(int socket, const ShareToken &token, const std::vector<uint8_t> &bytes, int fd) {
  if (bytes.size() > Gift::kMaxBytes) return EMSGSIZE;
  GiftMessage gift{kGiftMagic, static_cast<uint32_t>(bytes.size()), fd >= 0, token, {}};
  std::copy(bytes.begin(), bytes.end(), gift.bytes);
  iovec part{&gift, kGiftHead + bytes.size()};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  return sendAll(socket, message, part.iov_len);
}

Heard hearHello(int socket, Hello *hello) {
  HelloMessage said;
  // Descriptors that a stranger sends along find no room, and are closed. So is what is too long.
  const ssize_t bytes = recv(socket, &said, sizeof said, MSG_DONTWAIT | MSG_TRUNC);
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return Heard::kNothing;
  if (bytes != sizeof said || said.magic != kHelloMagic) return Heard::kWrong;
  *hello = {said.rank, said.token};
  return Heard::kMessage;
}

Heard takeGift(int socket, ShareToken *token, Gift *gift) {
  GiftMessage given;
  iovec part{&given, sizeof given};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t bytes = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return Heard::kNothing;
  if (bytes < 0) return Heard::kWrong;
  std::vector<Descriptor> descriptors = descriptorsOf(message);
  const size_t length = static_cast<size_t>(bytes);
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || length < kGiftHead || given.magic != kGiftMagic ||
      given.byteCount > Gift::kMaxBytes || length != kGiftHead + given.byteCount || given.fdCount > 1 ||
      given.fdCount != descriptors.size()) {
    return Heard::kWrong;
  }
  *token = given.token;
  gift->bytes.assign(given.bytes, given.bytes + given.byteCount);
  if (given.fdCount == 1) gift->fd = std::move(descriptors[0]);
  return Heard::kMessage;
}

}  // namespace moe_a2a_addon
