import { copyShape, numElements, shapeProblem, type Tensor } from "@moe-a2a/core";
import { argumentError, formatTensor } from "./check.js";

// A tensor may own its device memory, so that a view has to keep it alive.
const owners = new WeakMap<Tensor, Tensor>();

/**
 * The same memory under another shape, for tensors of either device.
 *
 * @throws ERR_MOE_A2A_ARGUMENT where `given` is no shape, or the shapes hold different numbers of elements
 */
export function reshape<T extends Tensor>(t: T, given: readonly number[]): T {
  const shape = copyShape(given) as readonly number[];
  const problem = shapeProblem(shape);
  if (problem) throw argumentError("shape", `reshape(): the shape ${problem}`);
  const broken = shapeProblem(t?.shape);
  if (broken) throw argumentError("t", `reshape(): the tensor's shape ${broken}`);
  if (numElements(t.shape) !== numElements(shape)) {
    throw argumentError("shape", `reshape(): ${formatTensor(t)} does not have the elements of [${shape}]`);
  }
  const { dtype, device, data } = t;
  const view = { dtype, shape: Object.freeze([...shape]), device, data } as T;
  owners.set(view, t);
  return view;
}
