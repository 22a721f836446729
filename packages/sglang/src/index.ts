export { type CreateMoeAllToAllOptions, createMoeAllToAll } from "./create.js";
export { diagnose } from "./diagnose/diagnose.js";
export type * from "./diagnose/diagnosis.js";
export { MoeA2ADispatcher } from "./dispatcher.js";
export type * from "./dispatcher-options.js";
export {
  chooseDpPaddingMode,
  type DpPaddingMode,
  runtimeMaxTokensPerRank,
  scatteredTokenCounts,
} from "./dp.js";
export * from "./formats.js";
export type * from "./hook-types.js";
export type { HookHandle, Unchanged } from "./hooks.js";
export {
  COMBINE_CHANNEL,
  DISPATCH_CHANNEL,
  type PhaseMessage,
  type PhaseStart,
} from "./observe/channels.js";
export { startTrace, TRACE_VARIABLE, type Trace, type TraceOptions } from "./observe/chrome-trace.js";
export type { DeviceTime } from "./observe/device-time.js";
export {
  combineBytesPerToken,
  dispatchBytesPerToken,
  QUANT_FORMATS,
  type QuantConfig,
  type QuantFormat,
  type QuantizedHiddenStates,
  type TokenForm,
} from "./quant.js";
export { reshape } from "./reshape.js";
export {
  type BackendName,
  type BackendPreference,
  type BackendSelection,
  type BackendSelectionMessage,
  type BackendTensor,
  CUDA_UNUSABLE_WARNING,
  type RejectedBackend,
  SELECT_BACKEND_CHANNEL,
  selectBackend,
} from "./select-backend.js";
export {
  type DispatcherCall,
  type DispatcherStage,
  type DispatcherStageError,
  isDispatcherStageError,
} from "./stage.js";
export * from "./topk.js";
