import { type CpuTensor, tensor } from "@moe-a2a/core";
import type { QuantFormat, QuantizedHiddenStates } from "../src/index.js";

/** The value of a small float with `exponentBits` and `mantissaBits`, bias as in IEEE 754. */
function decode(bits: number, exponentBits: number, mantissaBits: number): number {
  const mantissa = (bits & ((1 << mantissaBits) - 1)) / (1 << mantissaBits);
  const exponent = (bits >> mantissaBits) & ((1 << exponentBits) - 1);
  const bias = (1 << (exponentBits - 1)) - 1;
  const magnitude = exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias);
  return bits >> (exponentBits + mantissaBits) ? -magnitude : magnitude;
}

const decodeE4M3 = (bits: number): number => decode(bits, 4, 3);
const decodeE2M1 = (bits: number): number => decode(bits, 2, 1);

/** The bits of a value that the format holds exactly; these tests choose no others. */
function encode(value: number, count: number, decoded: (bits: number) => number): number {
  for (let bits = 0; bits < count; bits++) if (decoded(bits) === value) return bits;
  throw new Error(`${value} is not representable`);
}

const encodeE4M3 = (value: number): number => encode(value, 256, decodeE4M3);
const encodeE2M1 = (value: number): number => encode(value, 16, decodeE2M1);

/** A real block quantiser and its inverse, on the CPU. */
export interface Quantiser {
  readonly block: number;
  quantize(hiddenStates: CpuTensor): QuantizedHiddenStates<CpuTensor>;
  dequantize(parts: QuantizedHiddenStates<CpuTensor>, hiddenSize: number): CpuTensor<"float32">;
}

interface Codec {
  readonly block: number;
  states(values: Float32Array, rows: number): CpuTensor;
  state(data: ArrayLike<number>, i: number): number;
  scales(values: number[], rows: number): CpuTensor;
  scale(data: ArrayLike<number>, i: number): number;
}

const e4m3 = (values: ArrayLike<number>, rows: number): CpuTensor =>
  tensor("float8_e4m3fn", [rows, values.length / rows], Uint8Array.from(values, encodeE4M3));

const codecs: Readonly<Record<Exclude<QuantFormat, "none">, Codec>> = {
  fp8: {
    block: 128,
    states: e4m3,
    state: (data, i) => decodeE4M3(data[i]!),
    scales: (values, rows) => tensor("float32", [rows, values.length / rows], values),
    scale: (data, i) => data[i]!,
  },
  mxfp8: {
    block: 32,
    states: e4m3,
    state: (data, i) => decodeE4M3(data[i]!),
    scales: (values, rows) =>
      tensor(
        "uint8",
        [rows, values.length / rows],
        values.map((x) => 127 + Math.log2(x)),
      ),
    scale: (data, i) => 2 ** (data[i]! - 127),
  },
  nvfp4: {
    block: 16,
    states: (values, rows) => {
      const codes = Array.from(values, encodeE2M1);
      const packed = Array.from(
        { length: codes.length / 2 },
        (_, i) => codes[2 * i]! | (codes[2 * i + 1]! << 4),
      );
      return tensor("uint8", [rows, packed.length / rows], packed);
    },
    state: (data, i) => decodeE2M1((data[i >> 1]! >> (i % 2 === 0 ? 0 : 4)) & 15),
    scales: e4m3,
    scale: (data, i) => decodeE4M3(data[i]!),
  },
};

function quantiserOf({ block, states, state, scales, scale }: Codec): Quantiser {
  return {
    block,
    quantize: ({ shape, data }) => {
      const [rows, width] = shape as [number, number];
      const values = new Float32Array(rows * width);
      const rowScales: number[] = [];
      for (let row = 0; row < rows; row++) {
        for (let start = 0; start < width; start += block) {
          const end = Math.min(start + block, width);
          const cells = Array.from(data.subarray(row * width + start, row * width + end), Number);
          const largest = Math.max(...cells.map(Math.abs), 1);
          const blockScale = 2 ** Math.ceil(Math.log2(largest / 4));
          rowScales.push(blockScale);
          values.set(
            cells.map((x) => x / blockScale),
            row * width + start,
          );
        }
      }
      return { hiddenStates: states(values, rows), hiddenStatesScale: scales(rowScales, rows) };
    },
    dequantize: ({ hiddenStates, hiddenStatesScale }, hiddenSize) => {
      const rows = hiddenStates.shape[0]!;
      const blocks = hiddenStatesScale.shape[1]!;
      const out = tensor("float32", [rows, hiddenSize]);
      for (let i = 0; i < out.data.length; i++) {
        const at = Math.floor(i / hiddenSize) * blocks + Math.floor((i % hiddenSize) / block);
        const factor = scale(hiddenStatesScale.data as Uint8Array, at);
        out.data[i] = state(hiddenStates.data as Uint8Array, i) * factor;
      }
      return out;
    },
  };
}

export const QUANTISERS: Readonly<Record<Exclude<QuantFormat, "none">, Quantiser>> = {
  fp8: quantiserOf(codecs.fp8),
  mxfp8: quantiserOf(codecs.mxfp8),
  nvfp4: quantiserOf(codecs.nvfp4),
};
