// What needs no GPU: layout, mappings, what is refused.
#include <cstdio>
#include <cstring>
#include <random>

#include "mapping.hpp"
#include "wire_plan.hpp"
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

// Whether a DeepSeek-V3 dispatch goes in packets on this many ranks.
bool inPackets(int ranks, int slots) {
  moe_a2a_config config = someConfig();
  config.ep_size = ranks;
  config.max_tokens_per_rank = 4096;
  config.max_dispatch_bytes_per_token = 14400;
  const uint64_t area = moe_a2a::packetArea(config, moe_a2a::packetsOf(14400) + MOE_A2A_MAX_PAYLOADS);
  return moe_a2a::goesInPackets(config, slots, moe_a2a::packetsOf(14400), area);
}

void packets() {
  expect(inPackets(2, 36) && !inPackets(2, 37), "2 ranks: 36 tokens go in packets");
  expect(inPackets(4, 18) && !inPackets(4, 19), "4 ranks: 18 tokens go in packets");
  expect(inPackets(64, 1) && !inPackets(64, 2), "64 ranks: one token goes in packets");
  expect(!inPackets(1, 1), "one rank needs no packets");
  expect(!inPackets(2, 0), "no slots need no packets");
  moe_a2a_config narrow = someConfig();
  expect(moe_a2a::goesInPackets(narrow, 64, 1, ~0ull) && !moe_a2a::goesInPackets(narrow, 65, 1, ~0ull),
         "64 slots are the most");
  expect(!moe_a2a::goesInPackets(narrow, 4, 0, ~0ull), "rows without bytes need no packets");
  std::mt19937 random(7);
  for (int i = 0; i < 20000; i++) {
    const int perRow = 1 + static_cast<int>(random() % 4000), sends = static_cast<int>(random() % 200),
              receives = static_cast<int>(random() % 4100), most = 1 + static_cast<int>(random() % 500);
    moe_a2a_mapping asked{};
    if (random() % 4 == 0) asked.splits = 1 + static_cast<int>(random() % 64);
    if (random() % 4 == 0) asked.blocks = 1 + static_cast<int>(random() % 20000);
    moe_a2a::PacketParams plan{};
    const int blocks = moe_a2a::planPackets(plan, static_cast<uint64_t>(perRow), sends, receives, asked, most);
    expect(blocks >= 1 && blocks <= most, "all blocks fit");
    expect(plan.pieces >= 1 && plan.pieces <= blocks && plan.pieces <= 1 + sends * plan.sendSplits,
           "each piece has a block");
    const auto covers = [&](const moe_a2a::Parts &parts, int splits) {
      return splits >= 1 && parts.size * splits + parts.larger == perRow && parts.larger < splits;
    };
    expect(covers(plan.sent, plan.sendSplits) && covers(plan.received, plan.receiveSplits), "parts cover a row");
  }
}

// Whether a DeepSeek-V3 combine of this many tokens, of up to 8192 on each rank, pushes its results.
bool pushes(int ranks, int slots, int fewestSms, int dispatchBytes = 14400) {
  moe_a2a_config config = someConfig();
  config.ep_size = ranks;
  config.num_experts = 256;
  config.max_tokens_per_rank = 8192;
  config.max_dispatch_bytes_per_token = dispatchBytes;
  config.max_combine_bytes_per_token = 14336;
  moe_a2a_layout layout{};
  layout.struct_size = sizeof(layout);
  expect(moe_a2a_plan(&config, &layout) == MOE_A2A_OK, "the config is planned");
  return moe_a2a::pushesRows(config, layout, slots, 14336, moe_a2a::pushedFrom(fewestSms));
}

void pushing() {
  expect(pushes(4, 8192, 8) && pushes(2, 300, 16) && pushes(2, 1200, 32), "with few SMs results are pushed");
  expect(!pushes(2, 280, 16) && !pushes(2, 1100, 32), "but not where they are few");
  expect(!pushes(4, 8192, 0) && !pushes(4, 8192, 33), "with many SMs they are pulled");
  expect(!pushes(1, 8192, 8), "one rank pushes nothing");
  expect(!pushes(4, 0, 8), "without slots there is nothing to push");
  expect(!pushes(64, 8192, 8), "more flags than there is room for: results are pulled");
  expect(!pushes(4, 8192, 8, 7456) && pushes(4, 4096, 8, 7456),
         "rows longer than the second receive buffer are pulled");
  std::mt19937 random(9);
  for (int i = 0; i < 20000; i++) {
    const int rows = static_cast<int>(random() % 9000), most = 1 + static_cast<int>(random() % 500);
    moe_a2a_mapping asked{};
    if (random() % 4 == 0) asked.blocks = 1 + static_cast<int>(random() % 20000);
    moe_a2a::PushParams plan{};
    const int blocks = moe_a2a::planPush(plan, random() % 100000, rows, asked, most);
    expect(blocks >= 1 && blocks <= most, "all blocks fit");
    expect(plan.senders >= 1 && plan.senders <= blocks, "some of them send");
  }
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
  const moe_a2a_rank_options form{sizeof(form), 0, 0, 0, 0, 0, 1, 0, 3};
  expect(moe_a2a_rank_create(&config, &form, &rank) == MOE_A2A_INVALID, "an unknown wire form is refused");
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
  packets();
  pushing();
  errors();
  sharing();
  std::printf("host_test: %s\n", failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
