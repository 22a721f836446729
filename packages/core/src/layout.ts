import type { ResolvedConfig } from "./config.js";
import { LIMITS } from "./config.js";

/** Regions start at multiples of this, and so does each payload inside a receive buffer; in bytes. */
export const REGION_ALIGNMENT = 256;

/** Bytes of one control word with a cache line to itself, so that ranks do not share lines they spin on. */
export const FLAG_STRIDE = 64;
/** Bytes of one rank's dispatch header. */
export const DISPATCH_HEADER_BYTES = 128;
/** Bytes of one rank's combine header. */
export const COMBINE_HEADER_BYTES = 64;
/** Bytes of one rank's abort record. */
export const ABORT_RECORD_BYTES = 4096;
/** Bytes of a rank's own state: round numbers, membership, failure and reports, as GPU kernels keep them. */
export const STATE_BYTES = 32_768;
/** Copies of what a peer that is one phase ahead may already write for the next round. */
export const ROUND_BUFFERS = 2;
/** Bytes of a packet of a row: 8 of the row, and 8 that say whose they are. */
export const PACKET_BYTES = 16;
/** Bytes of the row that a packet carries. */
export const PACKET_DATA_BYTES = 8;
/** The most slots per rank of a round whose rows travel in packets. */
export const PACKET_SLOTS = 64;
/** The most bytes that a rank's packets of one phase take: with more, packets cost more than what they save. */
export const PACKET_AREA_BYTES = 2_097_152;
/** Pieces of outgoing work of a phase: each has a mark that says whether a running block does it. */
export const PIECES = 1024;

export function alignUp(bytes: number, alignment: number = REGION_ALIGNMENT): number {
  return Math.ceil(bytes / alignment) * alignment;
}

export interface Region {
  readonly name: string;
  /** `window`: peers read or write it. `private`: only its own rank does. */
  readonly memory: "window" | "private";
  readonly lane: 0 | 1 | undefined;
  /** From the start of the window or of the private memory. */
  readonly offset: number;
  readonly bytes: number;
  readonly purpose: string;
}

/** Byte offsets of one lane's regions. */
export interface LaneLayout {
  readonly dispatchFlags: number;
  readonly combineFlags: number;
  readonly dispatchHeaders: number;
  readonly combineHeaders: number;
  readonly expertStats: number;
  readonly recv: number;
  readonly combine: number;
  readonly dispatchPackets: number;
  readonly combinePackets: number;
  readonly recvCounts: number;
  readonly gatheredStats: number;
  readonly entryRanks: number;
  readonly entrySlots: number;
  readonly entryCounts: number;
  readonly sendCounts: number;
  readonly lastTokens: number;
  readonly runs: number;
  readonly tileCounts: number;
  readonly pieceMarks: number;
  readonly output: number;
  /** The next two only where ranks share no memory. */
  readonly results: number | undefined;
  readonly sendOrder: number | undefined;
}

/** What a plan depends on besides the config. */
export interface WorkspaceOptions {
  /**
   * Whether ranks can read one another's windows; default true. CPU ranks in processes cannot: they have results sent to
   * them, which takes a region more.
   */
  readonly sharedMemory?: boolean;
}

/** Where everything of one rank's workspace lies. A function of the config alone. */
export interface WorkspaceLayout {
  readonly regions: readonly Region[];
  readonly control: number;
  readonly abortRecords: number;
  readonly state: number;
  readonly accumulator: number;
  readonly lanes: readonly LaneLayout[];
  /** Bytes of one of the {@link ROUND_BUFFERS} receive buffers. */
  readonly recvBufferBytes: number;
  /** Bytes of one rank's row in the statistics region. */
  readonly statsRowBytes: number;
  /** The most distinct ranks that one token can go to. */
  readonly maxTargets: number;
  readonly windowBytes: number;
  readonly privateBytes: number;
}

/** Bytes of one row in float32, whatever the dtype that it came in. */
export function accumulatorBytes(config: ResolvedConfig): number {
  return alignUp(config.maxCombineBytesPerToken * 2);
}

/** Lays out one rank's window and private memory. */
export function layoutWorkspace(
  config: ResolvedConfig,
  { sharedMemory = true }: WorkspaceOptions = {},
): WorkspaceLayout {
  const { epSize: R, maxTokensPerRank: M, topK: K } = config;
  const maxTargets = Math.min(K, R);
  const statsRowBytes = config.maxExpertStats * 4;
  const packetArea = (perToken: number): number =>
    Math.min(PACKET_AREA_BYTES, R * Math.min(M, PACKET_SLOTS) * perToken * PACKET_BYTES);
  const recvBufferBytes = alignUp(
    R * M * config.maxDispatchBytesPerToken + LIMITS.payloads * REGION_ALIGNMENT,
  );

  const regions: Region[] = [];
  const ends = { window: 0, private: 0 };
  let lane: 0 | 1 | undefined;
  const region = (memory: "window" | "private", name: string, bytes: number, purpose: string): number => {
    const offset = ends[memory];
    const size = alignUp(bytes);
    regions.push({ name, memory, lane, offset, bytes: size, purpose });
    ends[memory] = offset + size;
    return offset;
  };

  const control = region(
    "window",
    "control",
    FLAG_STRIDE * (1 + R),
    "generation; closed words, one per rank",
  );
  const abortRecords = region("window", "abortRecords", R * ABORT_RECORD_BYTES, "verdicts of failed ranks");
  const state = region("private", "state", STATE_BYTES, "rounds, membership and failure, on a GPU");
  const accumulator = region(
    "private",
    "accumulator",
    2 * accumulatorBytes(config),
    "one row's float32 sum and addend",
  );
  const lanes: LaneLayout[] = [];
  for (let l = 0; l < config.roundsInFlight; l++) {
    lane = l as 0 | 1;
    lanes.push({
      dispatchFlags: region(
        "window",
        "dispatchFlags",
        R * FLAG_STRIDE,
        "round that each rank has dispatched",
      ),
      combineFlags: region(
        "window",
        "combineFlags",
        R * FLAG_STRIDE,
        "round that each rank offers results of",
      ),
      dispatchHeaders: region(
        "window",
        "dispatchHeaders",
        ROUND_BUFFERS * R * DISPATCH_HEADER_BYTES,
        "what each rank believes about the round, and its row count",
      ),
      combineHeaders: region(
        "window",
        "combineHeaders",
        R * COMBINE_HEADER_BYTES,
        "hidden size and dtype of each rank",
      ),
      expertStats: region(
        "window",
        "expertStats",
        ROUND_BUFFERS * R * statsRowBytes,
        "statistics from each rank",
      ),
      recv: region("window", "recv", ROUND_BUFFERS * recvBufferBytes, "payload rows from each rank"),
      combine: region(
        "window",
        "combine",
        R * M * config.maxCombineBytesPerToken,
        "expert output, read by its owners",
      ),
      dispatchPackets: region(
        "window",
        "dispatchPackets",
        packetArea(Math.ceil(config.maxDispatchBytesPerToken / PACKET_DATA_BYTES) + LIMITS.payloads),
        "rows of rounds with few tokens, on a GPU",
      ),
      combinePackets: region(
        "window",
        "combinePackets",
        packetArea(Math.ceil(config.maxCombineBytesPerToken / PACKET_DATA_BYTES)),
        "results of rounds with few tokens, on a GPU",
      ),
      recvCounts: region("private", "recvCounts", R * 4, "rows received from each rank"),
      gatheredStats: region(
        "private",
        "gatheredStats",
        R * statsRowBytes,
        "statistics as shown to the caller",
      ),
      entryRanks: region(
        "private",
        "entryRanks",
        M * maxTargets,
        "ranks that each token went to, in order of k",
      ),
      entrySlots: region("private", "entrySlots", M * maxTargets * 4, "slots that each token went to"),
      entryCounts: region("private", "entryCounts", M, "number of ranks that each token went to"),
      sendCounts: region("private", "sendCounts", R * 4, "rows sent to each rank"),
      lastTokens: region(
        "private",
        "lastTokens",
        R * 4,
        "last token that chose each rank; on a GPU the received counts, for the combine",
      ),
      runs: region("private", "runs", R * 8, "tokens side by side on their way to each rank"),
      tileCounts: region(
        "private",
        "tileCounts",
        M * R * 8,
        "rows from each tile of tokens to each rank, on a GPU",
      ),
      pieceMarks: region(
        "private",
        "pieceMarks",
        2 * PIECES * 8,
        "which outgoing work running blocks do, on a GPU",
      ),
      output: region("private", "output", M * config.maxCombineBytesPerToken, "combined rows"),
      results: sharedMemory
        ? undefined
        : region("window", "results", R * M * config.maxCombineBytesPerToken, "expert output from each rank"),
      sendOrder: sharedMemory
        ? undefined
        : region("private", "sendOrder", M * maxTargets * 4, "tokens in the order of each rank's slots"),
    });
  }
  return {
    regions,
    control,
    abortRecords,
    state,
    accumulator,
    lanes,
    recvBufferBytes,
    statsRowBytes,
    maxTargets,
    windowBytes: ends.window,
    privateBytes: ends.private,
  };
}
