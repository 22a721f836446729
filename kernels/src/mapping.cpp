#include "mapping.hpp"

#include <algorithm>

#include "params.hpp"

namespace moe_a2a {
namespace {

enum Kind { kWarpPerToken = 1, kBlockPerToken = 2 };
enum SlotsBy { kRecount = 1, kScan = 2 };

// A row shorter than this leaves most of a block idle.
constexpr int kBlockRowBytes = 2048;

// Tokens for a block from which on it takes them in short tiles, and how long these are. With fewer blocks, a tile
// takes too little time to hide the scan before it.
constexpr int kLongShare = 8;
constexpr int kShortTile = 3;
constexpr int kManyBlocks = 128;

int divideUp(int a, int b) { return (a + b - 1) / b; }

}  // namespace

moe_a2a_mapping chooseMapping(const moe_a2a_mapping &asked, int tokens, int rowBytes, int maxBlocks) {
  constexpr int warps = kThreads / 32;
  moe_a2a_mapping m = asked;
  if (m.kind == 0) m.kind = rowBytes >= kBlockRowBytes ? kBlockPerToken : kWarpPerToken;
  const int perTile = m.kind == kBlockPerToken ? 1 : warps;
  if (m.tokens_per_tile == 0) {
    // One wave of blocks where the tokens allow it. Blocks have unequal shares of the links, so with many tokens for
    // each those that are fast take more than others.
    const int share = divideUp(tokens, maxBlocks);
    const int perBlock = share > kLongShare && maxBlocks >= kManyBlocks ? kShortTile : share;
    m.tokens_per_tile = std::clamp(perBlock, std::min(perTile, std::max(tokens, 1)), kMaxTile);
  }
  const int tiles = std::max(1, divideUp(tokens, m.tokens_per_tile));
  if (m.splits == 0) {
    // Few tokens: a row goes through several SMs, as long as each thread still has 16 bytes to move. With a block on
    // every SM more of them only cost more fences.
    const int useful = tokens > 0 && m.kind == kBlockPerToken ? divideUp(rowBytes / 16, kThreads) : 1;
    m.splits = std::clamp(maxBlocks / kBlocksPerSm / tiles, 1, std::max(1, useful));
  }
  if (m.blocks == 0) m.blocks = std::min(maxBlocks, tiles * m.splits);
  if (m.slots_by == 0) m.slots_by = tokens <= kMaxCounted ? kRecount : kScan;
  return m;
}

}  // namespace moe_a2a

extern "C" int32_t moe_a2a_choose_mapping(int32_t, int32_t tokens, int32_t row_bytes, int32_t max_blocks,
                                          moe_a2a_mapping *mapping) {
  if (!mapping || tokens < 0 || row_bytes < 1 || max_blocks < 1) return MOE_A2A_INVALID;
  *mapping = moe_a2a::chooseMapping({}, tokens, row_bytes, max_blocks);
  return MOE_A2A_OK;
}
