import { Random } from "../random.js";
import type { ModelShape } from "./shape.js";

/** Weights of one layer; matrices are `[rows out, columns in]`, row after row. */
export interface LayerWeights {
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
  readonly output: Float32Array;
  readonly router: Float32Array;
  /** Per expert: gate, then up, `[intermediate, hidden]` each. */
  readonly gateUp: Float32Array;
  /** Per expert: `[hidden, intermediate]`. */
  readonly down: Float32Array;
}

/** Calls `take` for each matrix of the model, always in the same order. */
function layWeights(
  { layers, hidden, experts, intermediate }: ModelShape,
  take: (count: number, inputs: number) => Float32Array,
): LayerWeights[] {
  return Array.from({ length: layers }, () => ({
    query: take(hidden * hidden, hidden),
    key: take(hidden * hidden, hidden),
    value: take(hidden * hidden, hidden),
    output: take(hidden * hidden, hidden),
    router: take(experts * hidden, hidden),
    gateUp: take(experts * 2 * intermediate * hidden, hidden),
    down: take(experts * hidden * intermediate, intermediate),
  }));
}

/** The layers' weights in `buffer`, as {@link createWeights} laid them out. */
export function viewWeights(shape: ModelShape, buffer: SharedArrayBuffer): LayerWeights[] {
  let offset = 0;
  return layWeights(shape, (count) => {
    const view = new Float32Array(buffer, offset, count);
    offset += view.byteLength;
    return view;
  });
}

/** Seeded weights, in memory that ranks on threads can share. */
export function createWeights(shape: ModelShape, seed: number): SharedArrayBuffer {
  let bytes = 0;
  const none = new Float32Array(0);
  layWeights(shape, (count) => {
    bytes += count * Float32Array.BYTES_PER_ELEMENT;
    return none;
  });
  const buffer = new SharedArrayBuffer(bytes);
  const random = new Random(seed, 2);
  let offset = 0;
  layWeights(shape, (count, inputs) => {
    const view = new Float32Array(buffer, offset, count);
    // Keeps the variance of what comes in.
    random.fill(view, Math.sqrt(3 / inputs));
    offset += view.byteLength;
    return view;
  });
  return buffer;
}
