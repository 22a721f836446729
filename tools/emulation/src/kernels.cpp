// The library's kernels, made known to the emulation.
#include "kernels.hpp"

#include "device.hpp"

namespace {

template <typename Params>
void add(const char *name, const void *address, int cost) {
  emulation::makeKnown(name, reinterpret_cast<void (*)(Params)>(reinterpret_cast<uintptr_t>(address)), cost);
}

const bool added = [] {
  using namespace moe_a2a;
  const int rows = emulation::kUnitsPerSm / kBlocksPerSm, packets = emulation::kUnitsPerSm / kPacketBlocksPerSm;
  add<DispatchParams>("dispatchKernel", dispatchFunction(), rows);
  add<DispatchParams>("dispatchDirectly", dispatchDirectlyFunction(), rows);
  add<DispatchParams>("dispatchInPackets", dispatchInPacketsFunction(), packets);
  for (int dtype = 0; dtype < 3; dtype++) {
    add<CombineParams>("combineKernel", combineFunction(dtype), rows);
    add<CombineParams>("combineDirectly", combineDirectlyFunction(dtype), rows);
    add<CombineParams>("combineInPackets", combineInPacketsFunction(dtype), packets);
    add<CombineParams>("combineByPush", combineByPushFunction(dtype), rows);
  }
  return true;
}();

}  // namespace
