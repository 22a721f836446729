// How ranks of one host give one another a descriptor each, over sockets that only this user's processes with the right
// token get anything from. Needs neither CUDA nor Node.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "fd_messages.hpp"
#include "peer_lines.hpp"

namespace moe_a2a_addon {

class FdExchange {
 public:
  struct Peer {
    std::string name;
    ShareToken token;
  };
  enum class End {
    kDone,
    kTimeout,
    // The socket of a rank that has not given or taken everything is closed: it has left for good.
    kGone,
    kStopped,
  };
  struct Outcome {
    End end = End::kDone;
    // Ranks that did not come, or that are gone; a mask.
    uint64_t missing = 0;
    // By rank; this rank's own is empty.
    std::vector<Gift> gifts;
    // By rank, what stays open between this rank and each other; only where all is done.
    std::vector<PeerLine> lines;
  };

  // Makes a name and a token, and listens: the others may come from now on. 0, or an errno.
  int open();
  const std::string &name() const { return name_; }
  const ShareToken &token() const { return token_; }
  // Until run() or close().
  bool isOpen() const { return listener_.isOpen(); }
  void close() { listener_.reset(); }

  /*
   * Gives `bytes` and `fd` (-1: none) to every other rank, and takes what they give. `peers` are all ranks, this one
   * too; at most 64. Blocks, at most for `timeout`. Whoever else comes is turned away and does not change that. No
   * socket is left open but those of the lines.
   */
  Outcome run(int rank, const std::vector<Peer> &peers, const std::vector<uint8_t> &bytes, int fd,
              std::chrono::milliseconds timeout);
  // Ends run() soon; from any thread.
  void stop() { isStopped_ = true; }

 private:
  std::string name_;
  ShareToken token_{};
  Descriptor listener_;
  std::atomic<bool> isStopped_{false};
};

}  // namespace moe_a2a_addon
