import type {
  Backend,
  CpuTensor,
  CudaTensor,
  Group,
  MoeAllToAll,
  MoeAllToAllConfig,
  Tensor,
} from "@moe-a2a/core";
import { expect, expectTypeOf, test } from "vitest";
import {
  type BackendSelection,
  type CombineInput,
  createMoeAllToAll,
  type DispatcherStage,
  type DispatchOutput,
  type FlashinferCombineInput,
  type FlashinferDispatchOutput,
  isDispatcherStageError,
  isFlashinferDispatchOutput,
  type MoeA2ADispatcher,
  type PreDispatchHook,
  type QuantConfig,
  selectBackend,
  type TopKOutput,
} from "../src/index.js";

// Checked by the type checker; running it only says that the file is there.
test("the public types", () => {
  type Dispatcher = MoeA2ADispatcher<CpuTensor>;

  expectTypeOf(selectBackend<"auto">).returns.resolves.toEqualTypeOf<BackendSelection<Tensor>>();
  expectTypeOf(selectBackend<"js">)
    .returns.resolves.toHaveProperty("backend")
    .toEqualTypeOf<Backend<CpuTensor>>();
  expectTypeOf(selectBackend<"cuda">)
    .returns.resolves.toHaveProperty("backend")
    .toEqualTypeOf<Backend<CudaTensor>>();
  expectTypeOf(createMoeAllToAll<"js">).parameters.toExtend<
    [MoeAllToAllConfig, Group, { backend?: "js" }?]
  >();
  expectTypeOf(createMoeAllToAll<"js">).returns.resolves.toEqualTypeOf<MoeAllToAll<CpuTensor>>();
  expectTypeOf(createMoeAllToAll).returns.resolves.toEqualTypeOf<MoeAllToAll<Tensor>>();

  expectTypeOf<Dispatcher["dispatch"]>().returns.resolves.toEqualTypeOf<
    FlashinferDispatchOutput<CpuTensor>
  >();
  expectTypeOf<Dispatcher["dispatchA"]>().returns.toBeVoid();
  expectTypeOf<Dispatcher["combineA"]>().returns.toBeVoid();
  expectTypeOf<Dispatcher["combine"]>().returns.resolves.toEqualTypeOf<CpuTensor>();
  expectTypeOf<Dispatcher["combine"]>().parameter(0).toEqualTypeOf<FlashinferCombineInput<CpuTensor>>();
  expectTypeOf<Dispatcher["stage"]>().toEqualTypeOf<DispatcherStage>();

  expectTypeOf<DispatchOutput["format"]>().toEqualTypeOf<
    "standard" | "deepepNormal" | "deepepLl" | "flashinfer"
  >();
  expectTypeOf<CombineInput["format"]>().toEqualTypeOf<DispatchOutput["format"]>();
  expectTypeOf<TopKOutput["format"]>().toEqualTypeOf<"standard" | "bypassed" | undefined>();
  expectTypeOf<Extract<DispatchOutput<CpuTensor>, { format: "deepepLl" }>["expectedM"]>().toBeNumber();

  const output = { format: "standard" } as DispatchOutput<CpuTensor>;
  if (isFlashinferDispatchOutput(output)) {
    expectTypeOf(output).toEqualTypeOf<FlashinferDispatchOutput<CpuTensor>>();
    expectTypeOf(output.moeOutput).toEqualTypeOf<CpuTensor | undefined>();
  }
  if (output.format === "deepepNormal")
    expectTypeOf(output.numRecvTokensPerExpert).toExtend<readonly number[]>();
  const error: unknown = undefined;
  if (isDispatcherStageError(error)) {
    expectTypeOf(error.code).toEqualTypeOf<"ERR_MOE_A2A_STATE">();
    expectTypeOf(error.state).toExtend<DispatcherStage>();
  }

  expectTypeOf<() => undefined>().toExtend<PreDispatchHook>();
  expectTypeOf<() => Promise<undefined>>().not.toExtend<PreDispatchHook>();
  // Hooks that return nothing need no return statement.
  const _hook: PreDispatchHook = () => {};
  expectTypeOf<{ format: "fp8" }>().not.toExtend<QuantConfig>();
  expectTypeOf<{ format: "none" }>().toExtend<QuantConfig>();
  expect(_hook).toBeTypeOf("function");
});
