import { expectTypeOf, it } from "vitest";
import {
  type Backend,
  bytesPerElement,
  type Combine,
  type CpuTensor,
  type CudaTensor,
  createLocalGroup,
  type Dispatch,
  type DispatchInput,
  type DispatchReport,
  type Group,
  isMoeA2AError,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  type Tensor,
  type TypedArrayOf,
  tensor,
} from "../src/index.js";

it("gives tensors the array class of their dtype", () => {
  expectTypeOf<TypedArrayOf<"float32">>().toEqualTypeOf<Float32Array>();
  expectTypeOf<TypedArrayOf<"bfloat16" | "float16">>().toEqualTypeOf<Uint16Array>();
  expectTypeOf<TypedArrayOf<"uint8" | "float8_e4m3fn" | "float8_e5m2">>().toEqualTypeOf<Uint8Array>();
  expectTypeOf<TypedArrayOf<"int64">>().toEqualTypeOf<BigInt64Array>();
  expectTypeOf(tensor("int32", [2])).toEqualTypeOf<CpuTensor<"int32">>();
  expectTypeOf(tensor("int32", [2]).data).toEqualTypeOf<Int32Array>();
  expectTypeOf<CudaTensor["data"]>().toEqualTypeOf<bigint>();
  expectTypeOf<Tensor["device"]["type"]>().toEqualTypeOf<"cpu" | "cuda">();
  // @ts-expect-error a float32 tensor holds a Float32Array
  expectTypeOf(() => tensor("float32", [1], new Int32Array(1))).toBeFunction();
  // @ts-expect-error no such dtype
  expectTypeOf(() => bytesPerElement("float64")).toBeFunction();
});

it("keeps the tensor type of a backend through a round", () => {
  expectTypeOf<Backend<CpuTensor>>().toExtend<Backend>();
  expectTypeOf<MoeAllToAll<CudaTensor>>().toExtend<MoeAllToAll>();
  expectTypeOf<MoeAllToAll<CpuTensor>["dispatch"]>().returns.toEqualTypeOf<Dispatch<CpuTensor>>();
  expectTypeOf<Dispatch<CpuTensor>["combine"]>().returns.toEqualTypeOf<Combine<CpuTensor>>();
  expectTypeOf<Dispatch<CpuTensor>["ready"]>().returns.resolves.toEqualTypeOf<DispatchReport>();
  expectTypeOf<Dispatch["readySync"]>().returns.toEqualTypeOf<DispatchReport>();
  expectTypeOf<Combine<CudaTensor>["output"]>().toEqualTypeOf<CudaTensor>();
  expectTypeOf<MoeAllToAll>().toExtend<AsyncDisposable>();
  expectTypeOf<MoeAllToAll["abort"]>().parameters.toEqualTypeOf<[reason?: unknown]>();
  expectTypeOf<DispatchInput["lane"]>().toEqualTypeOf<0 | 1 | undefined>();
  expectTypeOf<DispatchInput<CpuTensor>["numLocalTokens"]>().toEqualTypeOf<number | CpuTensor>();
});

it("takes a config as the contract names it, and a real AbortSignal", () => {
  const config: MoeAllToAllConfig = {
    epSize: 1,
    numExperts: 1,
    topK: 1,
    maxTokensPerRank: 1,
    maxDispatchBytesPerToken: 1,
    maxCombineBytesPerToken: 1,
  };
  expectTypeOf(config).toExtend<MoeAllToAllConfig>();
  expectTypeOf<NonNullable<MoeAllToAllConfig["roundsInFlight"]>>().toEqualTypeOf<1 | 2>();
  expectTypeOf<AbortSignal>().toExtend<
    NonNullable<NonNullable<Parameters<Dispatch["ready"]>[0]>["signal"]>
  >();
  expectTypeOf(createLocalGroup).returns.toEqualTypeOf<Group[]>();
  expectTypeOf<Group["exchange"]>().returns.resolves.toEqualTypeOf<readonly Uint8Array[]>();
});

it("narrows an error to its code", () => {
  const error: unknown = undefined;
  if (isMoeA2AError(error, "ERR_MOE_A2A_CAPACITY")) {
    expectTypeOf(error.value).toEqualTypeOf<number>();
    expectTypeOf(error.limit).toEqualTypeOf<number>();
  }
  if (isMoeA2AError(error, "ERR_MOE_A2A_EXPERT_ID")) expectTypeOf(error.token).toEqualTypeOf<number>();
  if (isMoeA2AError(error, "ERR_MOE_A2A_MISMATCH"))
    expectTypeOf(error.values).toEqualTypeOf<readonly unknown[]>();
});
