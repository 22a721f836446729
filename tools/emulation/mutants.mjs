// Kernels with a mistake, which a test on a GPU may well not notice: the emulation has to find each.

const replaced = (file, from, to) => (text, name) => {
  if (name !== file) return text;
  if (!text.includes(from)) throw new Error(`${file} has no ${JSON.stringify(from)} any more`);
  return text.replaceAll(from, to);
};

export const mutants = [
  {
    name: "turn-not-awaited",
    what: "a phase that has looked ahead does not wait for its turn",
    change: replaced(
      "begin.cuh",
      "  waitForEarlierKernel();",
      "  if (!p.startNextEarly) waitForEarlierKernel();",
    ),
  },
  {
    name: "round-not-compared",
    what: "a phase goes by what was completed last, and may take the number of the round before",
    change: replaced(
      "state.cuh",
      "lowOf(pair_) == phaseNumber(round, phase) - 1",
      "(lowOf(pair_) & 1) != static_cast<uint32_t>(phase)",
    ),
  },
  {
    name: "stop-not-seen",
    what: "a phase that looks ahead takes up the round that a stop has made fail",
    program: "stop_test",
    change: replaced("state.cuh", " && (which != kStop || lowOf(pair_) == kGoOn)", ""),
  },
  {
    name: "rows-not-fenced",
    what: "a block counts its results as sent without ordering them before that",
    change: replaced(
      "begin.cuh",
      "      fenceSys();\n      const uint32_t mine",
      "      const uint32_t mine",
    ),
  },
  {
    name: "piece-not-fenced",
    what: "a block flags its piece without ordering its rows before that",
    change: replaced("piece_flags.cuh", "  fenceSys();\n  delay(", "  delay("),
  },
  {
    name: "pieces-not-awaited",
    what: "a dispatch is over when its headers are here",
    change: replaced("teller.cuh", "return watch.await(p, sh, messages) == kArrived;", "return true;"),
  },
  {
    name: "pieces-not-added-up",
    what: "a dispatch is over when one block has sent its pieces",
    change: replaced("piece_flags.cuh", "static_cast<int32_t>(flag.data)", "1 << 20"),
  },
  {
    name: "share-not-filled",
    what: "the block that tells and then sends leaves out the share of the padding that it has taken",
    change: replaced("dispatch.cu", "!failed && block.ticket > task.pieces", "!failed && !tells"),
  },
  {
    name: "stopped-scan",
    what: "a rank that is told to wait for nobody leaves out rows that it has yet to send",
    program: "stop_test",
    change: replaced("scan.cuh", "messagesOf(p, block), true)", "messagesOf(p, block), false)"),
  },
  {
    name: "words-not-awaited",
    what: "a tile goes by the words before it that happen to be there",
    change: replaced("scan.cuh", "static_cast<uint32_t>(held >> 32) != block.round", "false"),
  },
  {
    name: "divergent-shuffle",
    what: "half a warp asks another lane for what it has counted",
    change: replaced(
      "begin.cuh",
      "sum = __shfl_sync(0xffffffff, sum, 0);",
      "if (threadIdx.x < 16) sum = __shfl_sync(0xffffffff, sum, 0);",
    ),
  },
  {
    name: "slots-not-awaited",
    what: "rows are sent without waiting for the warps that find their slots",
    change: replaced(
      "route.cuh",
      "if (records) keepEntry(p, token, entry.place, entry.owner, slot);\n  }\n  __syncthreads();",
      "if (records) keepEntry(p, token, entry.place, entry.owner, slot);\n  }",
    ),
  },
];
