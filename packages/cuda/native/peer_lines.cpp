#include "peer_lines.hpp"

#include <sys/socket.h>

#include <cerrno>

namespace moe_a2a_addon {

namespace {

constexpr char kGoodbye = 'b';

}  // namespace

void PeerLines::look() {
  for (size_t r = 0; r < lines_.size(); r++) {
    Descriptor &line = lines_[r].watched;
    if (!line.isOpen()) continue;
    char word = 0;
    const ssize_t bytes = recv(line.get(), &word, 1, MSG_DONTWAIT);
    if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) continue;
    (bytes == 1 && word == kGoodbye ? closed_ : lost_) |= uint64_t{1} << r;
    line.reset();
  }
}

void PeerLines::sayGoodbye() {
  for (PeerLine &line : lines_) {
    // Who does not listen any more need not be told.
    if (line.held.isOpen()) (void)!send(line.held.get(), &kGoodbye, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

}  // namespace moe_a2a_addon
