export type * from "./api.js";
export {
  CONFIG_FIELDS,
  checkConfig,
  configError,
  DEFAULT_TIMEOUT_MS,
  LIMITS,
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
export type { Group } from "./group/group.js";
export * from "./layout.js";
export { expertOwner, expertRange } from "./placement.js";
export {
  byteLengthOf,
  CPU,
  type CpuTensor,
  type CudaTensor,
  describe,
  numElements,
  shapeProblem,
  type Tensor,
  tensor,
} from "./tensor.js";
export { formatWorkspacePlan, largestCapacity, planWorkspace, type WorkspacePlan } from "./workspace.js";
