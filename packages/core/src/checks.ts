import type { DispatchInput } from "./api.js";
import { LIMITS, type ResolvedConfig } from "./config.js";
import { bytesPerElement, type CombineDType, type DType, isDType, typedArrayOf } from "./dtype.js";
import { MoeA2AError } from "./errors.js";
import { describe, numElements, shapeProblem, type Tensor } from "./tensor.js";

/** Which rank checks, with which config, for tensors of which device. */
export interface CheckContext {
  readonly config: ResolvedConfig;
  readonly rank: number;
  readonly device: Tensor["device"]["type"];
}

/** What a dispatch's arguments come to, once they are known to be right. */
export interface CheckedDispatch {
  readonly numLocalTokens: number;
  /** `runtimeMaxTokensPerRank` with its default. */
  readonly maxTokens: number;
  /** Row bytes of each payload. */
  readonly rowBytes: readonly number[];
  /** -1 where no payload holds expert ids. */
  readonly expertIdPayloadIndex: number;
  readonly invalidTokenExpertId: number;
  readonly statsLength: number;
}

const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;

const combineDTypes: readonly DType[] = ["float32", "float16", "bfloat16"];

/** An ARGUMENT error; the message starts with the rank and the argument's name. */
export function argumentError(
  rank: number,
  argument: string,
  problem: string,
): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return new MoeA2AError("ERR_MOE_A2A_ARGUMENT", `rank ${rank}: ${argument} ${problem}`, { argument });
}

function isInteger(value: unknown, low: number, high: number): value is number {
  return Number.isInteger(value) && (value as number) >= low && (value as number) <= high;
}

/**
 * Checks that `value` is a tensor of this device, dtype and shape; `undefined` dimensions are free.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkTensor(
  context: CheckContext,
  argument: string,
  value: unknown,
  expected: {
    readonly dtype?: readonly DType[];
    readonly shape: readonly (number | undefined)[];
    readonly dims: string;
  },
): asserts value is Tensor {
  const fail = (problem: string) => argumentError(context.rank, argument, problem);
  if (typeof value !== "object" || value === null) throw fail(`is ${describe(value)}, not a tensor`);
  const { dtype, shape, device, data } = value as Partial<Tensor>;
  if (!isDType(dtype)) throw fail(`has the dtype ${describe(dtype)}, which is none`);
  const problem = shapeProblem(shape);
  if (problem) throw fail(`has a shape that ${problem}`);
  const dimensions = shape as readonly number[];
  if (device?.type !== context.device) {
    throw fail(`is on device ${describe(device?.type)}; this backend takes ${context.device} tensors`);
  }
  if (expected.dtype && !expected.dtype.includes(dtype)) {
    const hint =
      dtype === "int64" && expected.dtype.includes("int32")
        ? "; convert the ids, they are not read as they are"
        : "";
    throw fail(`has dtype ${dtype}; it must be ${expected.dtype.join(" or ")}${hint}`);
  }
  const matches =
    dimensions.length === expected.shape.length &&
    expected.shape.every((size, i) => size === undefined || dimensions[i] === size);
  if (!matches) {
    const wanted = expected.shape.map((size, i) => size ?? expected.dims.split(", ")[i]).join(", ");
    throw fail(`has shape [${dimensions.join(", ")}]; it must be [${wanted}] (${expected.dims})`);
  }
  const count = numElements(dimensions);
  if (context.device === "cuda") {
    if (typeof data !== "bigint")
      throw fail(`has data of type ${typeof data}; a cuda tensor holds an address (bigint)`);
    if (data === 0n && count > 0) throw fail(`has a null address for ${count} elements`);
    return;
  }
  const wantedArray = typedArrayOf(dtype).name;
  const array = data as
    | { readonly [Symbol.toStringTag]?: string; readonly length?: number }
    | undefined
    | null;
  if (array?.[Symbol.toStringTag] !== wantedArray) {
    throw fail(`has data that is ${describe(data)}; a ${dtype} tensor holds a ${wantedArray}`);
  }
  if (array.length !== count) {
    throw fail(`has ${array.length} elements in data, but shape [${dimensions.join(", ")}] has ${count}`);
  }
}

/** Checks m and L against each other and the capacity. */
function checkCounts(
  context: CheckContext,
  input: DispatchInput,
): { numLocalTokens: number; maxTokens: number } {
  const { config, rank } = context;
  const capacity = config.maxTokensPerRank;
  const maxTokens: unknown = input.runtimeMaxTokensPerRank ?? capacity;
  if (!isInteger(maxTokens, 0, Number.MAX_SAFE_INTEGER)) {
    throw argumentError(
      rank,
      "runtimeMaxTokensPerRank",
      `is ${describe(maxTokens)}; it must be an integer >= 0`,
    );
  }
  if (maxTokens > capacity) {
    throw new MoeA2AError(
      "ERR_MOE_A2A_CAPACITY",
      `rank ${rank}: runtimeMaxTokensPerRank is ${maxTokens}, but the workspace holds ${capacity} tokens per rank; ` +
        `create the instance with config.maxTokensPerRank of at least ${maxTokens}`,
      { value: maxTokens, limit: capacity },
    );
  }
  const numLocalTokens: unknown = input.numLocalTokens;
  if (!isInteger(numLocalTokens, 0, Number.MAX_SAFE_INTEGER)) {
    throw argumentError(rank, "numLocalTokens", `is ${describe(numLocalTokens)}; it must be an integer >= 0`);
  }
  if (numLocalTokens > maxTokens) {
    const cure =
      numLocalTokens <= capacity
        ? `pass a runtimeMaxTokensPerRank of at least ${numLocalTokens} on every rank`
        : `create the instance with config.maxTokensPerRank of at least ${numLocalTokens} (it is ${capacity})`;
    throw new MoeA2AError(
      "ERR_MOE_A2A_CAPACITY",
      `rank ${rank}: numLocalTokens is ${numLocalTokens}, but this round has ${maxTokens} slots per rank ` +
        `(runtimeMaxTokensPerRank); ${cure}`,
      { value: numLocalTokens, limit: maxTokens },
    );
  }
  return { numLocalTokens, maxTokens };
}

function checkPayloads(
  context: CheckContext,
  input: DispatchInput,
  numLocalTokens: number,
): readonly number[] {
  const { config, rank } = context;
  const payloads: unknown = input.payloads;
  if (!Array.isArray(payloads) || payloads.length < 1 || payloads.length > LIMITS.payloads) {
    const given = Array.isArray(payloads) ? `has ${payloads.length} tensors` : `is ${describe(payloads)}`;
    throw argumentError(rank, "payloads", `${given}; it must be an array of 1 to ${LIMITS.payloads} tensors`);
  }
  const rowBytes: number[] = [];
  let total = 0;
  for (let p = 0; p < payloads.length; p++) {
    const payload: unknown = payloads[p];
    checkTensor(context, `payloads[${p}]`, payload, {
      shape: [numLocalTokens, undefined],
      dims: "numLocalTokens, n",
    });
    const bytes = (payload.shape[1] as number) * bytesPerElement(payload.dtype);
    rowBytes.push(bytes);
    total += bytes;
  }
  if (total > config.maxDispatchBytesPerToken) {
    throw argumentError(
      rank,
      "payloads",
      `take ${total} bytes per token (${rowBytes.join(" + ")}), but config.maxDispatchBytesPerToken is ` +
        `${config.maxDispatchBytesPerToken}; create the instance with at least ${total}`,
    );
  }
  return rowBytes;
}

/**
 * Checks the arguments of a dispatch, as far as they can be seen on the host. Nothing is sent or written.
 *
 * @throws ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_CAPACITY
 */
export function checkDispatch(context: CheckContext, input: DispatchInput): CheckedDispatch {
  const { config, rank } = context;
  if (typeof input !== "object" || input === null)
    throw argumentError(rank, "input", `is ${describe(input)}, not an object`);
  const { numLocalTokens, maxTokens } = checkCounts(context, input);
  checkTensor(context, "tokenSelectedExperts", input.tokenSelectedExperts, {
    dtype: ["int32"],
    shape: [numLocalTokens, config.topK],
    dims: "numLocalTokens, topK",
  });
  const rowBytes = checkPayloads(context, input, numLocalTokens);

  const expertIdPayloadIndex: unknown = input.expertIdPayloadIndex ?? -1;
  if (input.expertIdPayloadIndex !== undefined) {
    if (!isInteger(expertIdPayloadIndex, 0, rowBytes.length - 1)) {
      throw argumentError(
        rank,
        "expertIdPayloadIndex",
        `is ${describe(expertIdPayloadIndex)}; it must name one of the ${rowBytes.length} payloads`,
      );
    }
    const { dtype } = input.payloads[expertIdPayloadIndex] as Tensor;
    if (dtype !== "int32") {
      throw argumentError(
        rank,
        "expertIdPayloadIndex",
        `names payloads[${expertIdPayloadIndex}] of dtype ${dtype}; expert ids are int32`,
      );
    }
  }
  const invalidTokenExpertId: unknown = input.invalidTokenExpertId ?? -1;
  if (!isInteger(invalidTokenExpertId, INT32_MIN, INT32_MAX)) {
    throw argumentError(
      rank,
      "invalidTokenExpertId",
      `is ${describe(invalidTokenExpertId)}; it must be an int32`,
    );
  }
  let statsLength = 0;
  if (input.expertStats !== undefined) {
    checkTensor(context, "expertStats", input.expertStats, {
      dtype: ["int32"],
      shape: [undefined],
      dims: "n",
    });
    statsLength = input.expertStats.shape[0] as number;
    if (statsLength > config.maxExpertStats) {
      throw argumentError(
        rank,
        "expertStats",
        `has ${statsLength} elements, but config.maxExpertStats is ${config.maxExpertStats}; ` +
          `create the instance with at least ${statsLength}`,
      );
    }
  }
  if (input.lane !== undefined && !isInteger(input.lane, 0, config.roundsInFlight - 1)) {
    throw argumentError(
      rank,
      "lane",
      `is ${describe(input.lane)}; config.roundsInFlight is ${config.roundsInFlight}, so the lanes are 0…${config.roundsInFlight - 1}`,
    );
  }
  return {
    numLocalTokens,
    maxTokens,
    rowBytes,
    expertIdPayloadIndex: expertIdPayloadIndex as number,
    invalidTokenExpertId,
    statsLength,
  };
}

/**
 * Checks hidden size and dtype of rows to combine.
 *
 * @returns bytes of one row
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkCombineRow(
  { config, rank }: CheckContext,
  argument: string,
  hiddenSize: unknown,
  dtype: unknown,
): number {
  if (!combineDTypes.includes(dtype as DType)) {
    throw argumentError(
      rank,
      argument,
      `has dtype ${describe(dtype)}; combine takes ${combineDTypes.join(", ")}`,
    );
  }
  if (!isInteger(hiddenSize, 1, INT32_MAX)) {
    throw argumentError(
      rank,
      argument,
      `has the hidden size ${describe(hiddenSize)}; it must be an integer >= 1`,
    );
  }
  const bytes = hiddenSize * bytesPerElement(dtype as DType);
  if (bytes > config.maxCombineBytesPerToken) {
    throw argumentError(
      rank,
      argument,
      `takes ${bytes} bytes per row (${hiddenSize} × ${dtype}), but config.maxCombineBytesPerToken is ` +
        `${config.maxCombineBytesPerToken}; create the instance with at least ${bytes}`,
    );
  }
  return bytes;
}

/** What a combine's arguments come to. */
export interface CheckedCombine {
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
  readonly rowBytes: number;
}

/**
 * Checks the arguments of a combine against its dispatch.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkCombine(
  context: CheckContext,
  round: { readonly maxTokens: number; readonly numLocalTokens: number },
  expertOutput: Tensor,
  out: Tensor | undefined,
): CheckedCombine {
  checkTensor(context, "expertOutput", expertOutput, {
    dtype: combineDTypes,
    shape: [context.config.epSize, round.maxTokens, undefined],
    dims: "epSize, runtimeMaxTokensPerRank, hiddenSize",
  });
  const hiddenSize = expertOutput.shape[2] as number;
  const rowBytes = checkCombineRow(context, "expertOutput", hiddenSize, expertOutput.dtype);
  if (out !== undefined) {
    checkTensor(context, "out", out, {
      dtype: combineDTypes,
      shape: [round.numLocalTokens, hiddenSize],
      dims: "numLocalTokens, hiddenSize",
    });
  }
  return { hiddenSize, dtype: expertOutput.dtype as CombineDType, rowBytes };
}
