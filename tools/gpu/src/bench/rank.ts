import {
  type CpuTensor,
  type CudaTensor,
  expertOwner,
  fromFloat32,
  type Group,
  type MoeAllToAllConfig,
  type Tensor,
  tensor,
  toFloat32,
} from "@moe-a2a/core";
import { type CudaMoeAllToAll, createStream, cudaBackend, type DeviceStream } from "@moe-a2a/cuda";
import type { Point, Shape } from "./points.js";

/** Rows of large outputs that are looked at. */
const CHECKED_ROWS = 48;

/** xorshift32: fast enough for inputs of hundreds of megabytes. */
function bits(seed: number): () => number {
  let x = seed | 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

function randomIds(tokens: number, { topK, experts }: Shape, seed: number): Int32Array {
  const next = bits(seed);
  const ids = new Int32Array(tokens * topK);
  for (let t = 0; t < tokens; t++) {
    for (let k = 0; k < topK; ) {
      const id = next() % experts;
      const at = t * topK;
      if (ids.subarray(at, at + k).includes(id)) continue;
      ids[at + k++] = id;
    }
  }
  return ids;
}

const rowsOf = (
  { dtype, device, data }: CudaTensor,
  first: number,
  rows: number,
  width: number,
): CudaTensor => {
  const bytes = dtype === "bfloat16" ? 2 : 4;
  return { dtype, device, shape: [rows, width], data: data + BigInt(first * width * bytes) };
};

/** One rank with inputs on its GPU, as many as fit. */
export class BenchRank {
  readonly a2a: CudaMoeAllToAll;
  readonly #stream: DeviceStream;
  readonly #shape: Shape;
  readonly #ids: readonly Int32Array[];
  readonly #hidden: CpuTensor;
  readonly #device: { readonly hidden: CudaTensor; readonly ids: CudaTensor; readonly weights: CudaTensor };
  readonly #out: CudaTensor;

  private constructor(
    a2a: CudaMoeAllToAll,
    stream: DeviceStream,
    shape: Shape,
    ids: readonly Int32Array[],
    hidden: CpuTensor,
  ) {
    this.a2a = a2a;
    this.#stream = stream;
    this.#shape = shape;
    this.#ids = ids;
    this.#hidden = hidden;
    const largest = a2a.config.maxTokensPerRank;
    this.#device = {
      hidden: a2a.empty("bfloat16", [largest, shape.hidden]),
      ids: a2a.empty("int32", [largest, shape.topK]),
      weights: a2a.empty("float32", [largest, shape.topK]),
    };
    this.#out = a2a.empty("bfloat16", [largest, shape.hidden]);
  }

  static async create(
    config: MoeAllToAllConfig,
    shape: Shape,
    group: Group,
    device: number,
    seed: number,
  ): Promise<BenchRank> {
    const a2a = await cudaBackend.create(config, group, { device });
    const stream = createStream(device);
    const { maxTokensPerRank: largest, epSize } = config;
    const ids = Array.from({ length: epSize }, (_, r) => randomIds(largest, shape, seed * 1000 + r + 1));
    const hidden = tensor("bfloat16", [largest, shape.hidden]);
    const next = bits(seed * 7919 + group.rank + 1);
    // Finite numbers of ordinary size, no two rows alike.
    for (let i = 0; i < hidden.data.length; i++) {
      const b = next();
      hidden.data[i] = (b & 0x8000) | 0x3f00 | (b & 0xff);
    }
    const rank = new BenchRank(a2a, stream, shape, ids, hidden);
    await a2a.write(rank.#device.hidden, hidden.data);
    await a2a.write(rank.#device.ids, ids[group.rank]!);
    await a2a.write(rank.#device.weights, new Float32Array(largest * shape.topK).fill(1 / shape.topK));
    return rank;
  }

  /** What is timed goes there. */
  get stream(): bigint {
    return this.#stream.handle;
  }

  async close(): Promise<void> {
    await this.a2a.close();
    this.#stream.dispose();
  }

  /** Enqueues a dispatch of the point's tokens. */
  dispatch({ counts, slots }: Pick<Point, "counts" | "slots">, stream = this.stream) {
    const count = counts[this.a2a.epRank]!;
    const { hidden, topK } = this.#shape;
    const { ids, weights, hidden: states } = this.#device;
    return this.a2a.dispatch({
      numLocalTokens: count,
      tokenSelectedExperts: rowsOf(ids, 0, count, topK),
      payloads: [
        rowsOf(states, 0, count, hidden),
        rowsOf(ids, 0, count, topK),
        rowsOf(weights, 0, count, topK),
      ],
      runtimeMaxTokensPerRank: slots,
      expertIdPayloadIndex: 1,
      stream,
    });
  }

  /** Enqueues the combine of what lies in the combine buffer. */
  combine(dispatch: ReturnType<BenchRank["dispatch"]>, count: number, stream = this.stream) {
    const { hidden } = this.#shape;
    const out = rowsOf(this.#out, 0, count, hidden);
    return dispatch.combine(dispatch.combineBuffer(hidden, "bfloat16"), { out, stream });
  }

  /** Plays a round whose experts return what they received, and checks counts, ids and a sample of the sums. */
  async verify({ counts, slots }: Point): Promise<void> {
    const { a2a } = this;
    const rank = a2a.epRank;
    const { hidden, topK } = this.#shape;
    const dispatch = this.dispatch({ counts, slots });
    await dispatch.ready();
    const received = (await a2a.read(dispatch.recvCounts)) as Int32Array;
    const receivedIds = (await a2a.read(dispatch.recv[1]!)) as Int32Array;
    for (const [source, count] of counts.entries()) {
      const ids = this.#ids[source]!;
      let slot = 0;
      for (let t = 0; t < count; t++) {
        const own = ids.subarray(t * topK, (t + 1) * topK);
        if (!own.some((id) => expertOwner(a2a.config, id) === rank)) continue;
        const at = (source * slots + slot++) * topK;
        if (own.some((id, k) => id !== receivedIds[at + k])) {
          throw new Error(`rank ${rank}: slot [${source}, ${slot - 1}] does not hold token ${t}`);
        }
      }
      if (received[source] !== slot) {
        throw new Error(`rank ${rank}: ${received[source]} rows came from rank ${source}, not ${slot}`);
      }
    }
    const count = counts[rank]!;
    const out = rowsOf(this.#out, 0, count, hidden);
    await dispatch.combine(dispatch.recv[0]!, { out }).ready();
    const step = Math.max(1, Math.floor(count / CHECKED_ROWS));
    for (let t = 0; t < count; t += step) await this.#verifyRow(t);
  }

  async #verifyRow(t: number): Promise<void> {
    const { a2a } = this;
    const { hidden, topK } = this.#shape;
    const ids = this.#ids[a2a.epRank]!.subarray(t * topK, (t + 1) * topK);
    const targets = new Set(Array.from(ids, (id) => expertOwner(a2a.config, id))).size;
    const x = toFloat32("bfloat16", this.#hidden.data.subarray(t * hidden, (t + 1) * hidden) as Uint16Array);
    // Sums of a few equal bfloat16 numbers are exact in float32 but for the last rounding.
    const sums = x.map((value) => {
      let sum = 0;
      for (let i = 0; i < targets; i++) sum = Math.fround(sum + value);
      return sum;
    });
    const expected = fromFloat32("bfloat16", sums) as Uint16Array;
    const row: Tensor = rowsOf(this.#out, t, 1, hidden);
    const actual = (await a2a.read(row as CudaTensor)) as Uint16Array;
    const at = expected.findIndex((bits, i) => bits !== actual[i]);
    if (at >= 0) {
      throw new Error(
        `rank ${a2a.epRank}: output [${t}, ${at}] is ${actual[at]}, not ${expected[at]}, as bits`,
      );
    }
  }
}
