import {
  type Combine,
  type CombineDType,
  type CpuTensor,
  type Dispatch,
  type DispatchInput,
  type DispatchReport,
  type DType,
  fromFloat32,
  isMoeA2AError,
  type MoeAllToAll,
  type ReadyOptions,
  tensor,
} from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import type { BackendUnderTest } from "../src/index.js";

/** One way in which a backend could be wrong. */
export interface Mutation {
  /** Changes what is dispatched. */
  readonly input?: (input: DispatchInput<CpuTensor>) => DispatchInput<CpuTensor>;
  /** Changes what has arrived. */
  readonly arrived?: (dispatch: Dispatch<CpuTensor>) => void;
  readonly report?: (report: DispatchReport) => DispatchReport;
  /** Makes the output out of the float32 sums, in place of one rounding to nearest even. */
  readonly round?: (sums: Float32Array, dtype: CombineDType) => CpuTensor["data"];
  /** Changes the caller's `out` after a failed combine. */
  readonly spoiled?: (out: CpuTensor) => void;
  /** Turns a failure into another one, or into none. */
  readonly failure?: (error: unknown) => unknown;
  /** Sees each instance. */
  readonly created?: (a2a: MoeAllToAll<CpuTensor>) => void;
}

/** Passes on what a wait comes to. */
async function settled<T>(mutation: Mutation, wait: Promise<T>): Promise<T | undefined> {
  try {
    return await wait;
  } catch (error) {
    const other = mutation.failure && isMoeA2AError(error) ? mutation.failure(error) : error;
    if (other !== undefined) throw other;
    return undefined;
  }
}

class MutantCombine implements Combine<CpuTensor> {
  readonly inner: Combine<CpuTensor>;
  readonly mutation: Mutation;
  readonly sums: CpuTensor | undefined;
  readonly out: CpuTensor | undefined;

  constructor(inner: Combine<CpuTensor>, mutation: Mutation, sums?: CpuTensor, out?: CpuTensor) {
    this.inner = inner;
    this.mutation = mutation;
    this.sums = sums;
    this.out = out;
  }

  get output(): CpuTensor {
    const { output } = this.inner;
    return this.sums ? (this.out as CpuTensor) : output;
  }

  async ready(options?: ReadyOptions): Promise<void> {
    const { inner, mutation, sums, out } = this;
    const store = () => {
      if (!sums || !out) return;
      const data = mutation.round?.(sums.data as Float32Array, out.dtype as CombineDType);
      (out.data as Uint16Array).set(data as Uint16Array);
    };
    try {
      await settled(mutation, inner.ready(options));
      store();
    } catch (error) {
      store();
      if (out) mutation.spoiled?.(out);
      throw error;
    }
  }

  readySync(): void {
    this.inner.readySync();
  }
}

class MutantDispatch implements Dispatch<CpuTensor> {
  readonly inner: Dispatch<CpuTensor>;
  readonly mutation: Mutation;
  readonly tokens: number;
  #arrived = false;

  constructor(inner: Dispatch<CpuTensor>, mutation: Mutation, tokens: number) {
    this.inner = inner;
    this.mutation = mutation;
    this.tokens = tokens;
  }

  get recv(): readonly CpuTensor[] {
    return this.inner.recv;
  }
  get recvCounts(): CpuTensor {
    return this.inner.recvCounts;
  }
  get expertStats(): CpuTensor | undefined {
    return this.inner.expertStats;
  }
  combineBuffer(hiddenSize: number, dtype: DType): CpuTensor {
    return this.inner.combineBuffer(hiddenSize, dtype);
  }
  async ready(options?: ReadyOptions): Promise<DispatchReport> {
    const report = (await settled(this.mutation, this.inner.ready(options))) as DispatchReport;
    if (!this.#arrived) this.mutation.arrived?.(this.inner);
    this.#arrived = true;
    return this.mutation.report?.(report) ?? report;
  }
  readySync(): DispatchReport {
    return this.inner.readySync();
  }
  combine(expertOutput: CpuTensor, options?: { readonly out?: CpuTensor }): Combine<CpuTensor> {
    if (!this.mutation.round) {
      return new MutantCombine(
        this.inner.combine(expertOutput, options),
        this.mutation,
        undefined,
        options?.out,
      );
    }
    const shape = [this.tokens, expertOutput.shape[2] as number];
    const sums = tensor("float32", shape);
    const out = options?.out ?? tensor(expertOutput.dtype, shape);
    return new MutantCombine(this.inner.combine(expertOutput, { out: sums }), this.mutation, sums, out);
  }
}

/** The js backend with one thing wrong. */
export function mutant(base: BackendUnderTest, mutation: Mutation): BackendUnderTest {
  return {
    ...base,
    groups: ["local"],
    backend: {
      ...jsBackend,
      async create(config, group, options) {
        const a2a = await jsBackend.create(config, group, options);
        mutation.created?.(a2a);
        const dispatch = a2a.dispatch.bind(a2a);
        return Object.assign(a2a, {
          dispatch: (input: DispatchInput<CpuTensor>) =>
            new MutantDispatch(
              dispatch(mutation.input?.(input) ?? input),
              mutation,
              input.numLocalTokens as number,
            ),
        });
      },
    } as BackendUnderTest["backend"],
  };
}

/** Rounds to nearest even; for mutations that change something else. */
export const properly = (sums: Float32Array, dtype: CombineDType): CpuTensor["data"] =>
  fromFloat32(dtype, sums);

/** Cuts bits off in place of rounding. */
export function towardZero(sums: Float32Array, dtype: CombineDType): CpuTensor["data"] {
  const rounded = properly(sums, dtype);
  if (dtype !== "bfloat16") return rounded;
  const bits = new Uint32Array(sums.buffer, sums.byteOffset, sums.length);
  return Uint16Array.from(bits, (b, i) => (Number.isNaN(sums[i]) ? (rounded[i] as number) : b >>> 16));
}
