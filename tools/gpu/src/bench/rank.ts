import {
  bytesPerElement,
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
import { bits, drawIds } from "./routing.js";
import { type Point, type Shape, sentRowBytes } from "./shapes.js";

/** Rows of large outputs that are looked at. */
const CHECKED_ROWS = 48;

/** Rows `first`, `first + 1`, … of a tensor. */
const rowsOf = ({ dtype, device, data, shape }: CudaTensor, first: number, rows: number): CudaTensor => {
  const width = shape[1]!;
  return {
    dtype,
    device,
    shape: [rows, width],
    data: data + BigInt(first * width * bytesPerElement(dtype)),
  };
};

/** Hidden states of ordinary size, no two rows alike: bfloat16, or as the bytes that stand for fp8. */
function randomStates({ hidden, sent }: Shape, tokens: number, seed: number): CpuTensor {
  const next = bits(seed);
  if (sent === "fp8") {
    const states = tensor("float8_e4m3fn", [tokens, hidden]);
    for (let i = 0; i < states.data.length; i++) states.data[i] = next() & 0xbf;
    return states;
  }
  const states = tensor("bfloat16", [tokens, hidden]);
  for (let i = 0; i < states.data.length; i++) {
    const b = next();
    states.data[i] = (b & 0x8000) | 0x3f00 | (b & 0xff);
  }
  return states;
}

/** One rank with inputs on its GPU, as many as fit. */
export class BenchRank {
  readonly a2a: CudaMoeAllToAll;
  /** Expert ids of all ranks' tokens. */
  readonly ids: readonly Int32Array[];
  readonly #stream: DeviceStream;
  readonly #shape: Shape;
  readonly #states: CpuTensor;
  /** As dispatched: hidden states, scales where there are any, ids, weights. */
  readonly #payloads: readonly CudaTensor[];
  readonly #out: CudaTensor;
  /** First row of the next round's inputs, where they rotate. */
  #next = 0;

  private constructor(
    a2a: CudaMoeAllToAll,
    stream: DeviceStream,
    shape: Shape,
    ids: readonly Int32Array[],
    states: CpuTensor,
  ) {
    this.a2a = a2a;
    this.ids = ids;
    this.#stream = stream;
    this.#shape = shape;
    this.#states = states;
    const largest = a2a.config.maxTokensPerRank;
    this.#payloads = [
      a2a.empty(states.dtype, [largest, shape.hidden]),
      ...(shape.sent === "fp8" ? [a2a.empty("float32", [largest, sentRowBytes(shape)[1]! / 4])] : []),
      a2a.empty("int32", [largest, shape.topK]),
      a2a.empty("float32", [largest, shape.topK]),
    ];
    this.#out = a2a.empty("bfloat16", [largest, shape.hidden]);
  }

  static async create(
    config: MoeAllToAllConfig,
    shape: Shape,
    group: Group,
    device: number,
    seed: number,
  ): Promise<BenchRank> {
    const { maxSms, wireForm } = shape;
    const options = {
      device,
      ...(maxSms === undefined ? {} : { maxSms }),
      ...(wireForm === undefined ? {} : { wireForm }),
    };
    const a2a = await cudaBackend.create(config, group, options);
    const stream = createStream(device);
    const { maxTokensPerRank: largest, epSize } = config;
    const ids = Array.from({ length: epSize }, (_, r) => drawIds(shape, largest, epSize, r, seed));
    const states = randomStates(shape, largest, seed * 7919 + group.rank + 1);
    const rank = new BenchRank(a2a, stream, shape, ids, states);
    const payloads = rank.#payloads;
    const weights = new Float32Array(largest * shape.topK).fill(1 / shape.topK);
    const scales = payloads.length === 4 ? [new Float32Array(largest * payloads[1]!.shape[1]!).fill(1)] : [];
    for (const [q, data] of [states.data, ...scales, ids[group.rank]!, weights].entries()) {
      await a2a.write(payloads[q]!, data);
    }
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

  /** Enqueues a dispatch of the point's tokens; `rotating`: of other ones each time, as far as there are others. */
  dispatch(point: Pick<Point, "counts" | "slots">, stream = this.stream, rotating = false) {
    return this.a2a.dispatch(this.input(point, stream, rotating));
  }

  /** What such a dispatch takes. */
  input({ counts, slots }: Pick<Point, "counts" | "slots">, stream = this.stream, rotating = false) {
    const count = counts[this.a2a.epRank]!;
    const first = rotating && this.#next + count <= this.a2a.config.maxTokensPerRank ? this.#next : 0;
    if (rotating) this.#next = first + count;
    const payloads = this.#payloads.map((payload) => rowsOf(payload, first, count));
    return {
      numLocalTokens: count,
      tokenSelectedExperts: payloads.at(-2)!,
      payloads,
      runtimeMaxTokensPerRank: slots,
      expertIdPayloadIndex: payloads.length - 2,
      stream,
    };
  }

  /** Enqueues the combine of what lies in the combine buffer. */
  combine(dispatch: ReturnType<BenchRank["dispatch"]>, count: number, stream = this.stream) {
    const { results, out } = this.combineInput(dispatch, count);
    return dispatch.combine(results, { out, stream });
  }

  /** What such a combine takes. */
  combineInput(dispatch: ReturnType<BenchRank["dispatch"]>, count: number) {
    return {
      results: dispatch.combineBuffer(this.#shape.hidden, "bfloat16"),
      out: rowsOf(this.#out, 0, count),
    };
  }

  /**
   * Plays a round, and checks counts and ids. Experts return what they received where that is bfloat16, and a sample of the
   * sums is checked.
   */
  async verify({ counts, slots }: Point): Promise<void> {
    const { a2a } = this;
    const rank = a2a.epRank;
    const { topK } = this.#shape;
    const dispatch = this.dispatch({ counts, slots });
    await dispatch.ready();
    const received = (await a2a.read(dispatch.recvCounts)) as Int32Array;
    const receivedIds = (await a2a.read(dispatch.recv.at(-2)!)) as Int32Array;
    for (const [source, count] of counts.entries()) {
      const ids = this.ids[source]!;
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
    if (this.#shape.sent === "fp8") {
      await this.combine(dispatch, count).ready();
      return;
    }
    const out = rowsOf(this.#out, 0, count);
    await dispatch.combine(dispatch.recv[0]!, { out }).ready();
    const step = Math.max(1, Math.floor(count / CHECKED_ROWS));
    for (let t = 0; t < count; t += step) await this.#verifyRow(t);
  }

  async #verifyRow(t: number): Promise<void> {
    const { a2a } = this;
    const { hidden, topK } = this.#shape;
    const ids = this.ids[a2a.epRank]!.subarray(t * topK, (t + 1) * topK);
    const targets = new Set(Array.from(ids, (id) => expertOwner(a2a.config, id))).size;
    const x = toFloat32("bfloat16", this.#states.data.subarray(t * hidden, (t + 1) * hidden) as Uint16Array);
    // Sums of a few equal bfloat16 numbers are exact in float32 but for the last rounding.
    const sums = x.map((value) => {
      let sum = 0;
      for (let i = 0; i < targets; i++) sum = Math.fround(sum + value);
      return sum;
    });
    const expected = fromFloat32("bfloat16", sums) as Uint16Array;
    const row: Tensor = rowsOf(this.#out, t, 1);
    const actual = (await a2a.read(row as CudaTensor)) as Uint16Array;
    const at = expected.findIndex((bits, i) => bits !== actual[i]);
    if (at >= 0) {
      throw new Error(
        `rank ${a2a.epRank}: output [${t}, ${at}] is ${actual[at]}, not ${expected[at]}, as bits`,
      );
    }
  }
}
