import { bytesPerElement, type CombineDType, type DType, describe, type Tensor } from "@moe-a2a/core";
import { argumentError, checkInteger, checkTensor } from "./check.js";

/** The forms that hidden states can travel in. */
export type QuantFormat = "none" | "fp8" | "mxfp8" | "nvfp4";

/** What a quantiser returns: the rows as they travel, and their block scales. */
export interface QuantizedHiddenStates<T extends Tensor = Tensor> {
  readonly hiddenStates: T;
  readonly hiddenStatesScale: T;
}

/** Which form hidden states travel in, and who makes it. `quantize` never sees zero rows. */
export type QuantConfig<T extends Tensor = Tensor> =
  | { readonly format: "none" }
  | {
      readonly format: Exclude<QuantFormat, "none">;
      readonly quantize: (hiddenStates: T) => QuantizedHiddenStates<T>;
    };

interface FormatRow {
  readonly dtype: DType;
  /** Hidden elements that share one element of the row as it travels. */
  readonly packed: number;
  readonly scaleDtype: DType;
  /** Hidden elements that share one scale. */
  readonly block: number;
  /** Whether the last block may be short. */
  readonly shortBlock: boolean;
}

/** The quantised forms, one per line. */
const FORMATS: Readonly<Record<Exclude<QuantFormat, "none">, FormatRow>> = {
  fp8: { dtype: "float8_e4m3fn", packed: 1, scaleDtype: "float32", block: 128, shortBlock: true },
  mxfp8: { dtype: "float8_e4m3fn", packed: 1, scaleDtype: "uint8", block: 32, shortBlock: false },
  nvfp4: { dtype: "uint8", packed: 2, scaleDtype: "float8_e4m3fn", block: 16, shortBlock: false },
};

/** The names of all formats. */
export const QUANT_FORMATS: readonly QuantFormat[] = [
  "none",
  ...(Object.keys(FORMATS) as (keyof typeof FORMATS)[]),
];

/** Dtype and row width of one part of a token as it travels. */
export interface RowForm {
  readonly dtype: DType;
  readonly width: number;
}

/** The rows of hidden states of width `hiddenSize` in `format`: the states, and the scales where there are any. */
export function rowForms(
  format: Exclude<QuantFormat, "none">,
  hiddenSize: number,
): { readonly hiddenStates: RowForm; readonly scale: RowForm } {
  const { dtype, packed, scaleDtype, block } = FORMATS[format];
  return {
    hiddenStates: { dtype, width: hiddenSize / packed },
    scale: { dtype: scaleDtype, width: Math.ceil(hiddenSize / block) },
  };
}

/**
 * Checks that rows of `hiddenSize` can travel in `format`.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkFormat(where: string, format: QuantFormat, hiddenSize: number): void {
  if (!QUANT_FORMATS.includes(format)) {
    const known = QUANT_FORMATS.map(describe).join(", ");
    throw argumentError("format", `${where}: format is ${describe(format)}; it must be one of ${known}`);
  }
  if (format === "none") return;
  const { block, shortBlock } = FORMATS[format];
  if (!shortBlock && hiddenSize % block !== 0) {
    throw argumentError(
      "format",
      `${where}: ${format} has one scale per ${block} elements, and hiddenSize ${hiddenSize} is no multiple of ${block}`,
    );
  }
}

/**
 * Checks a quantisation config for rows of `hiddenSize`.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkQuantConfig<T extends Tensor>(
  where: string,
  config: QuantConfig<T>,
  hiddenSize: number,
): QuantConfig<T> {
  if (typeof config !== "object" || config === null) {
    throw argumentError("quantConfig", `${where}: quantConfig is ${describe(config)}, not an object`);
  }
  checkFormat(where, config.format, hiddenSize);
  if (config.format !== "none" && typeof config.quantize !== "function") {
    throw argumentError(
      "quantize",
      `${where}: quantize is ${describe(config.quantize)}; ${config.format} needs a function that makes it`,
    );
  }
  return config;
}

/**
 * Hidden states in the form they travel in. Zero rows are not given to `quantize`, which often cannot take them: their
 * empty tensors come from `empty`.
 *
 * @throws ERR_MOE_A2A_ARGUMENT where the result is not what the format says, as ranks would then disagree
 */
export function quantizeRows<T extends Tensor>(
  where: string,
  config: QuantConfig<T>,
  hiddenStates: T,
  empty: (dtype: DType, shape: readonly number[]) => T,
): { readonly hiddenStates: T; readonly hiddenStatesScale: T | undefined } {
  if (config.format === "none") return { hiddenStates, hiddenStatesScale: undefined };
  const [rows, hiddenSize] = hiddenStates.shape as readonly [number, number];
  const forms = rowForms(config.format, hiddenSize);
  if (rows === 0) {
    return {
      hiddenStates: empty(forms.hiddenStates.dtype, [0, forms.hiddenStates.width]),
      hiddenStatesScale: empty(forms.scale.dtype, [0, forms.scale.width]),
    };
  }
  const result: unknown = config.quantize(hiddenStates);
  if (typeof result !== "object" || result === null || !("hiddenStates" in result)) {
    throw argumentError(
      "quantize",
      `${where}: quantize() returned ${describe(result)}; it must return { hiddenStates, hiddenStatesScale } at once`,
    );
  }
  const made = result as QuantizedHiddenStates<T>;
  const part = (name: keyof QuantizedHiddenStates, { dtype, width }: RowForm): void =>
    checkTensor(where, `quantize().${name} (${config.format})`, made[name], dtype, [rows, width]);
  part("hiddenStates", forms.hiddenStates);
  part("hiddenStatesScale", forms.scale);
  return { hiddenStates: made.hiddenStates, hiddenStatesScale: made.hiddenStatesScale };
}

/** What decides how many bytes a token has. */
export interface TokenForm {
  readonly hiddenSize: number;
  /** Of the hidden states before quantisation, and of the combined result. */
  readonly dtype: CombineDType;
}

const rowBytes = ({ dtype, width }: RowForm): number => width * bytesPerElement(dtype);

/**
 * `maxDispatchBytesPerToken` for a dispatcher: hidden states (with their scales), ids and weights of one token.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function dispatchBytesPerToken({
  hiddenSize,
  dtype,
  topK,
  format = "none",
}: TokenForm & { readonly topK: number; readonly format?: QuantFormat }): number {
  const where = "dispatchBytesPerToken()";
  checkTokenForm(where, { hiddenSize, dtype });
  checkInteger(where, "topK", topK, 1);
  checkFormat(where, format, hiddenSize);
  const routing = topK * (bytesPerElement("int32") + bytesPerElement("float32"));
  if (format === "none") return rowBytes({ dtype, width: hiddenSize }) + routing;
  const forms = rowForms(format, hiddenSize);
  return rowBytes(forms.hiddenStates) + rowBytes(forms.scale) + routing;
}

/**
 * `maxCombineBytesPerToken` for a dispatcher: one row of expert output.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function combineBytesPerToken({ hiddenSize, dtype }: TokenForm): number {
  checkTokenForm("combineBytesPerToken()", { hiddenSize, dtype });
  return rowBytes({ dtype, width: hiddenSize });
}

const COMBINE_DTYPES: readonly CombineDType[] = ["float32", "float16", "bfloat16"];

/**
 * Checks a hidden size and the dtype of hidden states.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkTokenForm(where: string, { hiddenSize, dtype }: TokenForm): void {
  checkInteger(where, "hiddenSize", hiddenSize, 1);
  if (!COMBINE_DTYPES.includes(dtype)) {
    const known = COMBINE_DTYPES.map(describe).join(", ");
    throw argumentError("dtype", `${where}: dtype is ${describe(dtype)}; it must be one of ${known}`);
  }
}
