export type * from "./api.js";
export {
  type CheckedCombine,
  checkCombine,
  checkCombineRow,
  goneOutError,
  misplacedExpertOutputError,
  misplacedOutError,
  ownOutputError,
  sharedOutError,
} from "./checks/check-combine.js";
export { type CheckedDispatch, checkDispatch, checkStream } from "./checks/check-dispatch.js";
export { checkEmpty, checkSignal, checkTensorData } from "./checks/check-memory.js";
export {
  argumentError,
  type CheckContext,
  type CheckedTensor,
  checkTensor,
  type ExpectedTensor,
} from "./checks/check-tensor.js";
export {
  CONFIG_FIELDS,
  checkConfig,
  configError,
  DEFAULT_TIMEOUT_MS,
  LIMITS,
  type MoeAllToAllConfig,
  type ResolvedConfig,
} from "./config.js";
export {
  bytesPerElement,
  type CombineDType,
  DTYPES,
  type DType,
  isDType,
  type TensorData,
  type TypedArrayOf,
  typedArrayOf,
} from "./dtype.js";
export {
  type ErrorCode,
  type ErrorDetails,
  isMoeA2AError,
  type MissingKind,
  MoeA2AError,
  type MoeA2AErrorOf,
  type Phase,
} from "./errors.js";
export {
  BFLOAT16_NAN,
  bfloat16ToFloat32,
  FLOAT16_NAN,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  fromFloat32,
  toFloat32,
} from "./float16.js";
export { checkTimeoutMs } from "./group/exchange.js";
export type { Gatherings, GatherOptions, PeerState, Series } from "./group/gathering.js";
export type { Group } from "./group/group.js";
export {
  type Bell,
  type BlockingWait,
  type Channel,
  defineGroupInternals,
  type GroupInternals,
  groupInternalsOf,
  type LazyMessage,
  MalformedMessage,
} from "./group/internals.js";
export { createLocalGroup } from "./group/local-group.js";
export type { ProcessGroupOptions } from "./group/process/join-options.js";
export { joinProcessGroup } from "./group/process/join-process-group.js";
export { createThreadGroup, joinThreadGroup, type ThreadTicket } from "./group/thread-group.js";
export { type Failure, InstanceState } from "./instance/instance-state.js";
export { checkFirstRound, checkGroup, type Introduction, introduce } from "./instance/introductions.js";
export {
  checkActiveRanks,
  ResetMeetings,
  type ResetPlace,
  type ResetState,
  type ResetSteps,
} from "./instance/reset-meetings.js";
export {
  abortedError,
  abortMessage,
  disagreementError,
  expertIdError,
  reasonText,
  shortReason,
} from "./instance/round-errors.js";
/** A part of a rank's memory: where it lies, how long it is, and what for. */
export type { Region } from "./layout.js";
export * from "./layout.js";
/** The next multiple of `alignment` from `bytes` on: by default of 256, as regions are aligned to. */
export { alignUp } from "./layout.js";
export {
  type OracleCombine,
  type OracleDispatch,
  type OracleInput,
  type OracleRound,
  type OracleRoute,
  oracleCombine,
  oracleDispatch,
} from "./oracle.js";
export { expertOwner, expertRange } from "./placement.js";
export {
  byteLengthOf,
  CPU,
  type CpuTensor,
  type CudaTensor,
  copyShape,
  describe,
  isTypedArray,
  numElements,
  shapeProblem,
  type Tensor,
  tensor,
} from "./tensor.js";
export { fromVerdict, missingError, readVerdict, toVerdict, type Verdict } from "./verdict.js";
export { formatWorkspacePlan, largestCapacity, planWorkspace, type WorkspacePlan } from "./workspace.js";
