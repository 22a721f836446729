// What needs no GPU: layout, mappings, what is refused.
#include <cstdio>
#include <cstring>
#include <random>

#include "mapping.hpp"
#include "wire.hpp"

namespace {

int failures = 0;

void expect(bool holds, const char *what) {
  if (holds) return;
  failures++;
  std::printf("FAILED: %s\n", what);
}

moe_a2a_config someConfig() { return {sizeof(moe_a2a_config), 4, 16, 2, 100, 1000, 512, 8, 0, 1000, 2}; }

void layouts() {
  moe_a2a_layout layout{};
  layout.struct_size = sizeof(layout);
  const moe_a2a_config config = someConfig();
  expect(moe_a2a_plan(&config, &layout) == MOE_A2A_OK, "a layout for a config in range");
  expect(layout.control == 0 && layout.state == 0 && layout.max_targets == 2, "first regions at 0");
  expect(layout.window_bytes % 256 == 0 && layout.private_bytes % 256 == 0, "sizes are aligned");
  expect(layout.lanes[1].combine > layout.lanes[0].combine, "lanes follow one another");
  const auto refuses = [&](auto change, const char *what) {
    moe_a2a_config other = someConfig();
    change(other);
    expect(moe_a2a_plan(&other, &layout) == MOE_A2A_INVALID, what);
  };
  refuses([](auto &c) { c.ep_size = 65; }, "65 ranks are refused");
  refuses(
      [](auto &c) {
        c.top_k = 33;
        c.num_experts = 64;
      },
      "a topK of 33 is refused");
  refuses([](auto &c) { c.num_experts = 3; }, "fewer experts than ranks are refused");
  refuses([](auto &c) { c.struct_size = 4; }, "another struct_size is refused");
  refuses([](auto &c) { c.rounds_in_flight = 3; }, "3 lanes are refused");
}

void mappings() {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; i++) {
    const int tokens = static_cast<int>(random() % 20000), row = 1 + static_cast<int>(random() % 40000),
              blocks = 1 + static_cast<int>(random() % 600);
    const moe_a2a_mapping m = moe_a2a::chooseMapping({}, tokens, row, blocks);
    expect(m.kind >= 1 && m.kind <= 2 && m.tokens_per_tile >= 1 && m.tokens_per_tile <= 32,
           "kind and tile are in range");
    expect(m.splits >= 1 && m.splits <= 64 && m.blocks >= 1 && m.blocks <= blocks, "splits and blocks are in range");
    expect(m.slots_by >= 1 && m.slots_by <= 2, "slots_by is chosen");
  }
  const moe_a2a_mapping none = moe_a2a::chooseMapping({}, 0, 14336, 400);
  expect(none.blocks == 1, "no token takes a minimal grid");
  const moe_a2a_mapping one = moe_a2a::chooseMapping({}, 1, 14336, 400);
  expect(one.splits > 1, "one wide row goes through several blocks");
}

void errors() {
  moe_a2a_rank *rank = nullptr;
  expect(moe_a2a_rank_create(nullptr, nullptr, &rank) == MOE_A2A_INVALID, "null arguments are refused");
  moe_a2a_config config = someConfig();
  config.ep_size = 0;
  const moe_a2a_rank_options options{sizeof(options), 0, 0, 0, 0, 0, 1};
  expect(moe_a2a_rank_create(&config, &options, &rank) == MOE_A2A_INVALID, "a config out of range is refused");
  moe_a2a_error error{};
  moe_a2a_last_error(&error);
  expect(std::strlen(error.message) > 0, "the refusal says why");
  struct moe_a2a_platform_info platform {};
  platform.struct_size = sizeof(platform);
  expect(moe_a2a_platform(&platform) == MOE_A2A_OK, "the platform can be asked for without a GPU");
}

void sharing() {
  moe_a2a_rank *rank = nullptr;
  const moe_a2a_config config = someConfig();
  const moe_a2a_rank_options options{sizeof(options), 0, 0, 0, 0, 0, 1, 9};
  expect(moe_a2a_rank_create(&config, &options, &rank) == MOE_A2A_INVALID, "an unknown way to share is refused");
  moe_a2a_window_handle handle{};
  int32_t fd = 0;
  uint64_t address = 0;
  expect(moe_a2a_rank_export_window(nullptr, &handle, &fd) == MOE_A2A_INVALID, "no rank has no window to export");
  const auto refuses = [&](moe_a2a_window_handle given, int32_t descriptor, const char *what) {
    expect(moe_a2a_import_window(0, &given, descriptor, &address) == MOE_A2A_INVALID && address == 0, what);
  };
  refuses({}, 0, "a handle without struct_size is refused");
  const uint32_t size = sizeof(handle);
  refuses({size, 0, 256, 4096, {}, {}}, 0, "a handle of no kind is refused");
  refuses({size, MOE_A2A_WINDOW_FABRIC, 0, 4096, {}, {}}, -1, "an empty window is refused");
  refuses({size, MOE_A2A_WINDOW_FABRIC, 4097, 4096, {}, {}}, -1, "a window larger than its pages is refused");
  refuses({size, MOE_A2A_WINDOW_DESCRIPTOR, 256, 4096, {}, {}}, -1, "a missing descriptor is refused");
  expect(moe_a2a_release_imported_window(4096) == MOE_A2A_INVALID, "what was not imported cannot be released");
}

}  // namespace

int main() {
  layouts();
  mappings();
  errors();
  sharing();
  std::printf("host_test: %s\n", failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
