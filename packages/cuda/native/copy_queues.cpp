#include "copy_queues.hpp"

#include <algorithm>

#include "moe_a2a.h"
#include "process_memory.hpp"

namespace moe_a2a_addon {

int32_t CopyQueues::join(int32_t device, std::vector<uint64_t> after, uint64_t *stream) {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(queues_.begin(), queues_.end(), [&](const Queue &queue) { return queue.after == after; });
  if (found != queues_.end()) {
    found->copies++;
    *stream = found->stream;
    return MOE_A2A_OK;
  }
  if (const int32_t result = CopyStreams::instance().take(device, stream); result < 0) return result;
  queues_.push_back({std::move(after), *stream, 1});
  return MOE_A2A_OK;
}

void CopyQueues::leave(int32_t device, uint64_t stream) {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(queues_.begin(), queues_.end(), [&](const Queue &queue) { return queue.stream == stream; });
  if (found == queues_.end() || --found->copies > 0) return;
  CopyStreams::instance().give(device, stream);
  queues_.erase(found);
}

std::vector<uint64_t> CopyQueues::streams() {
  const std::lock_guard lock(mutex_);
  std::vector<uint64_t> streams;
  for (const Queue &queue : queues_) streams.push_back(queue.stream);
  return streams;
}

}  // namespace moe_a2a_addon
