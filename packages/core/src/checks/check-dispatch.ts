import type { DispatchInput } from "../api.js";
import { LIMITS, type ResolvedConfig } from "../config.js";
import type { DType } from "../dtype.js";
import { describe, type Tensor } from "../tensor.js";
import {
  argumentError,
  type CheckContext,
  type CheckedTensor,
  checkKept,
  checkTable,
  type ExpectedTable,
  elementBytes,
} from "./check-tensor.js";
import {
  expertIdPayloadError,
  invalidTokenExpertIdError,
  laneError,
  maxTokensError,
  numLocalTokensError,
  payloadsError,
  rowBytesError,
  rowsError,
  statsError,
  streamError,
} from "./dispatch-errors.js";

/** What a dispatch's arguments come to, once they are known to be right. Nothing is read from the input again. */
export interface CheckedDispatch<T extends Tensor = Tensor> {
  /** L, or with `tokenCount` the rows of the inputs, of which the device says how many count. */
  readonly numLocalTokens: number;
  /** Device int32 `[1]` that holds L, where one was given. */
  readonly tokenCount: CheckedTensor<T> | undefined;
  /** `runtimeMaxTokensPerRank` with its default. */
  readonly maxTokens: number;
  readonly tokenSelectedExperts: CheckedTensor<T>;
  readonly payloads: readonly CheckedTensor<T>[];
  /** Row bytes of each payload. */
  readonly rowBytes: readonly number[];
  /** -1 where no payload holds expert ids. */
  readonly expertIdPayloadIndex: number;
  readonly invalidTokenExpertId: number;
  readonly expertStats: CheckedTensor<T> | undefined;
  /** 0 without statistics. */
  readonly statsLength: number;
  /** The lane asked for. */
  readonly lane: 0 | 1 | undefined;
  /** The stream asked for; always undefined on the CPU. */
  readonly stream: bigint | undefined;
}

/** What ids, counts and statistics are. */
const INT32: readonly DType[] = ["int32"];

const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;
const HANDLE_MAX = 2n ** 64n - 1n;

function isInteger(value: unknown, low: number, high: number = Number.MAX_SAFE_INTEGER): value is number {
  return Number.isInteger(value) && (value as number) >= low && (value as number) <= high;
}

/** Checks m against the capacity. */
function checkMaxTokens(context: CheckContext, given: unknown): number {
  const capacity = context.config.maxTokensPerRank;
  const maxTokens = given === undefined ? capacity : given;
  if (!isInteger(maxTokens, 0, capacity)) throw maxTokensError(context, maxTokens);
  return maxTokens;
}

/** Checks L against m. */
function checkNumLocalTokens(context: CheckContext, given: unknown, maxTokens: number): number {
  if (!isInteger(given, 0, maxTokens)) throw numLocalTokensError(context, given, maxTokens);
  return given;
}

/** Rows of inputs whose count stands in device memory: P, at most m. */
function checkRows(context: CheckContext, ids: CheckedTensor, maxTokens: number): number {
  const rows = ids.shape[0] as number;
  if (rows > maxTokens) throw rowsError(context, rows, maxTokens);
  return rows;
}

/** @throws ERR_MOE_A2A_ARGUMENT */
export function checkStream({ rank, device }: CheckContext, given: unknown): bigint | undefined {
  if (device === "cpu" || given === undefined) return undefined;
  if (typeof given === "bigint" && given >= 0n && given <= HANDLE_MAX) return given;
  throw streamError(rank, given);
}

const IDS: ExpectedTable = { dtype: INT32, dims: "numLocalTokens, topK", dimensions: 2 };
const PAYLOAD: ExpectedTable = { dims: "numLocalTokens, n", dimensions: 2 };
const COUNT: ExpectedTable = { dtype: INT32, dims: "1", dimensions: 1 };
const STATS: ExpectedTable = { dtype: INT32, dims: "n", dimensions: 1 };

/** Names of payloads in messages, made once. */
const payloadNames: readonly string[] = Array.from({ length: LIMITS.payloads }, (_, p) => `payloads[${p}]`);

function checkPayloads<T extends Tensor>(
  context: CheckContext,
  given: unknown,
  numLocalTokens: number,
  kept: readonly CheckedTensor<T>[] | undefined,
): readonly CheckedTensor<T>[] {
  const count: number = Array.isArray(given) ? given.length : 0;
  if (!(count >= 1 && count <= LIMITS.payloads)) {
    throw payloadsError(context.rank, given);
  }
  const list = given as readonly unknown[];
  if (count === 1) {
    const only = checkPayload<T>(context, 0, list[0], numLocalTokens, kept?.[0]);
    return kept?.length === 1 && only === kept[0] ? kept : [only];
  }
  // All entries are read before one is looked into: reading a tensor may run code of the caller.
  const entries: unknown[] = [];
  for (let p = 0; p < count; p++) entries.push(list[p]);
  const payloads: CheckedTensor<T>[] = [];
  let isKept = kept?.length === count;
  for (let p = 0; p < count; p++) {
    const payload = checkPayload<T>(context, p, entries[p], numLocalTokens, kept?.[p]);
    isKept &&= payload === kept?.[p];
    payloads.push(payload);
  }
  return isKept && kept ? kept : payloads;
}

function checkPayload<T extends Tensor>(
  context: CheckContext,
  p: number,
  given: unknown,
  numLocalTokens: number,
  kept: CheckedTensor<T> | undefined,
): CheckedTensor<T> {
  const name = payloadNames[p] as string;
  return checkTable<T>(context, name, given, PAYLOAD, numLocalTokens, undefined, kept);
}

function checkRowBytes(
  context: CheckContext,
  payloads: readonly CheckedTensor[],
  kept: CheckedDispatch | undefined,
): readonly number[] {
  if (payloads === kept?.payloads) return kept.rowBytes;
  const rowBytes: number[] = [];
  let total = 0;
  for (let p = 0; p < payloads.length; p++) {
    const { dtype, shape } = payloads[p] as CheckedTensor;
    const bytes = (shape[1] as number) * elementBytes(dtype);
    rowBytes.push(bytes);
    total += bytes;
  }
  if (total > context.config.maxDispatchBytesPerToken) throw rowBytesError(context, rowBytes, total);
  return rowBytes;
}

function checkExpertIdPayload(rank: number, given: unknown, payloads: readonly CheckedTensor[]): number {
  if (given === undefined) return -1;
  if (!isInteger(given, 0, payloads.length - 1) || payloads[given]?.dtype !== "int32") {
    throw expertIdPayloadError(rank, given, payloads);
  }
  return given;
}

function checkStats<T extends Tensor>(
  context: CheckContext,
  given: unknown,
  kept: CheckedTensor<T> | undefined,
): CheckedTensor<T> | undefined {
  if (given === undefined) return undefined;
  const stats = checkTable<T>(context, "expertStats", given, STATS, undefined, undefined, kept);
  const length = stats.shape[0] as number;
  if (length > context.config.maxExpertStats) throw statsError(context, length);
  return stats;
}

function checkLane(config: ResolvedConfig, rank: number, given: unknown): 0 | 1 | undefined {
  if (given !== undefined && !isInteger(given, 0, config.roundsInFlight - 1)) {
    throw laneError(config, rank, given);
  }
  return given as 0 | 1 | undefined;
}

/**
 * Checks the arguments of a dispatch, as far as they can be seen on the host. Nothing is sent or written.
 *
 * @param kept what an earlier call for this rank came to, parts of which are used again where the arguments say the same
 * @throws ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_CAPACITY
 */
export function checkDispatch<T extends Tensor>(
  context: CheckContext,
  input: DispatchInput<T>,
  kept?: CheckedDispatch<T>,
): CheckedDispatch<T> {
  const { config, rank } = context;
  if (typeof input !== "object" || input === null) {
    throw argumentError(rank, "input", `is ${describe(input)}, not an object`);
  }
  const {
    runtimeMaxTokensPerRank,
    expertIdPayloadIndex,
    invalidTokenExpertId = -1,
    expertStats,
    lane,
  } = input;
  const maxTokens = checkMaxTokens(context, runtimeMaxTokensPerRank);
  const count: unknown = input.numLocalTokens;
  const onDevice = context.device === "cuda" && typeof count === "object" && count !== null;
  const given = onDevice ? undefined : checkNumLocalTokens(context, count, maxTokens);
  const tokenCount = onDevice
    ? checkTable<T>(context, "numLocalTokens", count, COUNT, 1, undefined, kept?.tokenCount)
    : undefined;
  const tokenSelectedExperts = checkTable<T>(
    context,
    "tokenSelectedExperts",
    input.tokenSelectedExperts,
    IDS,
    given,
    config.topK,
    kept?.tokenSelectedExperts,
  );
  const numLocalTokens = given ?? checkRows(context, tokenSelectedExperts, maxTokens);
  const payloads = checkPayloads<T>(context, input.payloads, numLocalTokens, kept?.payloads);
  const rowBytes = checkRowBytes(context, payloads, kept);
  if (!isInteger(invalidTokenExpertId, INT32_MIN, INT32_MAX)) {
    throw invalidTokenExpertIdError(rank, invalidTokenExpertId);
  }
  const stats = checkStats<T>(context, expertStats, kept?.expertStats);
  const stream = checkStream(context, input.stream);
  checkKept(context, "tokenSelectedExperts", tokenSelectedExperts);
  for (let p = 0; p < payloads.length; p++) checkKept(context, "payloads", payloads[p]);
  checkKept(context, "expertStats", stats);
  const idPayload = checkExpertIdPayload(rank, expertIdPayloadIndex, payloads);
  const askedLane = checkLane(config, rank, lane);
  // Row bytes are kept with payloads, and rows with ids; what is left of a round of the same form says the same, too.
  if (
    kept !== undefined &&
    tokenSelectedExperts === kept.tokenSelectedExperts &&
    payloads === kept.payloads &&
    maxTokens === kept.maxTokens &&
    idPayload === kept.expertIdPayloadIndex &&
    invalidTokenExpertId === kept.invalidTokenExpertId &&
    stats === kept.expertStats &&
    tokenCount === kept.tokenCount &&
    askedLane === kept.lane &&
    stream === kept.stream
  )
    return kept;
  return {
    numLocalTokens,
    tokenCount,
    maxTokens,
    tokenSelectedExperts,
    payloads,
    rowBytes,
    expertIdPayloadIndex: idPayload,
    invalidTokenExpertId,
    expertStats: stats,
    statsLength: stats ? (stats.shape[0] as number) : 0,
    lane: askedLane,
    stream,
  };
}
