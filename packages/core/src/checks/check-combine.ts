import { bytesPerElement, type CombineDType, type DType } from "../dtype.js";
import type { MoeA2AError } from "../errors.js";
import { describe, type Tensor } from "../tensor.js";
import {
  argumentError,
  type CheckContext,
  type CheckedTensor,
  checkKept,
  checkTable,
  type ExpectedTable,
} from "./check-tensor.js";

const combineDTypes: readonly DType[] = ["float32", "float16", "bfloat16"];

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
  if (!Number.isSafeInteger(hiddenSize) || (hiddenSize as number) < 1) {
    throw argumentError(
      rank,
      argument,
      `has the hidden size ${describe(hiddenSize)}; it must be an integer >= 1`,
    );
  }
  const bytes = (hiddenSize as number) * bytesPerElement(dtype as DType);
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
export interface CheckedCombine<T extends Tensor = Tensor> {
  readonly expertOutput: CheckedTensor<T>;
  /** Undefined where the plan's own memory takes the result. */
  readonly out: CheckedTensor<T> | undefined;
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
  readonly rowBytes: number;
}

const EXPERT_OUTPUT: ExpectedTable = {
  dtype: combineDTypes,
  dims: "epSize, runtimeMaxTokensPerRank, hiddenSize",
  dimensions: 3,
};
const OUT: ExpectedTable = { dtype: combineDTypes, dims: "numLocalTokens, hiddenSize", dimensions: 2 };

/**
 * Checks the arguments of a combine against its dispatch.
 *
 * @param kept what an earlier call for this rank came to, parts of which are used again where the arguments say the same
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkCombine<T extends Tensor>(
  context: CheckContext,
  round: { readonly maxTokens: number; readonly numLocalTokens: number },
  givenOutput: T,
  givenOut: T | undefined,
  kept?: CheckedCombine<T>,
): CheckedCombine<T> {
  const { epSize } = context.config;
  const keptOutput = kept?.expertOutput;
  const name = "expertOutput";
  const expertOutput = checkTable<T>(
    context,
    name,
    givenOutput,
    EXPERT_OUTPUT,
    epSize,
    round.maxTokens,
    keptOutput,
  );
  if (kept !== undefined && expertOutput === keptOutput && givenOut === undefined && kept.out === undefined)
    return kept;
  const hiddenSize = expertOutput.shape[2] as number;
  const dtype = expertOutput.dtype as CombineDType;
  const rowBytes = checkCombineRow(context, name, hiddenSize, dtype);
  const out =
    givenOut === undefined
      ? undefined
      : checkTable<T>(context, "out", givenOut, OUT, round.numLocalTokens, hiddenSize, kept?.out);
  checkKept(context, name, expertOutput);
  if (kept !== undefined && expertOutput === keptOutput && out === kept.out) return kept;
  return { expertOutput, out, hiddenSize, dtype, rowBytes };
}

/** An expert output across the memory that peers read the results from. */
export function misplacedExpertOutputError(rank: number): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return argumentError(
    rank,
    "expertOutput",
    "lies inside the combine buffer but does not start where it starts; pass what combineBuffer() returned",
  );
}

/** An output in memory of the plan, which peers read or later rounds write. */
export function misplacedOutError(rank: number): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  const why = "lies in this instance's own memory, which peers use and later rounds write again";
  return argumentError(rank, "out", `${why}; pass other memory, or none`);
}

/** An output whose memory is gone when the sums could be stored. */
export function goneOutError(rank: number): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  const why = "was transferred away or made shorter after combine(); keep it until ready() resolves";
  return argumentError(rank, "out", why);
}

/** An expert output in the memory of the plan that this combine's own output goes to. */
export function ownOutputError(rank: number): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  const why = "lies in the output of the lane's last combine, which this one writes again";
  return argumentError(rank, "expertOutput", `${why}; pass a copy, or an 'out' for the sums`);
}

/** An output in the memory of the expert output, which is still read when the first sums are stored. */
export function sharedOutError(rank: number): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return argumentError(rank, "out", "shares memory with expertOutput; pass other memory");
}
