// Streams for copies that have to wait.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace moe_a2a_addon {

/*
 * A copy must not stand behind what only another one waits for, since peers may wait for the one before they let the
 * other go on. So copies share a stream only where they come after the same events and streams. Streams come from the
 * process's pool, and go back there.
 */
class CopyQueues {
 public:
  // The stream of copies that come after `after`. leave() is due once the copy is over.
  int32_t join(int32_t device, std::vector<uint64_t> after, uint64_t *stream);
  // On any thread.
  void leave(int32_t device, uint64_t stream);
  // Those in use.
  std::vector<uint64_t> streams();

 private:
  struct Queue {
    std::vector<uint64_t> after;
    uint64_t stream;
    int copies;
  };
  std::mutex mutex_;
  std::vector<Queue> queues_;
};

}  // namespace moe_a2a_addon
