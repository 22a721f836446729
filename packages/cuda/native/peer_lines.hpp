// Connections that stay open between ranks in processes, so that each knows of the end of the others without asking its
// event loop. Needs neither CUDA nor Node.
#pragma once

#include <cstdint>
#include <vector>

#include "fd_messages.hpp"

namespace moe_a2a_addon {

// Two connections with one other rank.
struct PeerLine {
  // This rank called: it hears of the other's end.
  Descriptor watched;
  // The other called: it hears of this rank's.
  Descriptor held;
};

class PeerLines {
 public:
  PeerLines() = default;
  // By rank; this rank's own are not open.
  explicit PeerLines(std::vector<PeerLine> lines) : lines_(std::move(lines)) {}

  // Masks of the ranks that have closed, and of those that ended without a word; both only grow. Never blocks.
  uint64_t closed() const { return closed_; }
  uint64_t lost() const { return lost_; }
  void look();
  // Tells the others that this rank closes.
  void sayGoodbye();

 private:
  std::vector<PeerLine> lines_;
  uint64_t closed_ = 0;
  uint64_t lost_ = 0;
};

}  // namespace moe_a2a_addon
