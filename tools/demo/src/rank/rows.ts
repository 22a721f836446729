import {
  type DType,
  type MoeAllToAll,
  numElements,
  type Tensor,
  type TensorData,
  type TypedArrayOf,
  typedArrayOf,
} from "@moe-a2a/core";

/** Rows that the model computes on the host and the all-to-all moves. Where the backend runs on the host, both use one memory. */
export class Rows<D extends DType> {
  readonly host: TypedArrayOf<D>;
  readonly #a2a: MoeAllToAll;
  readonly #tensor: Tensor;

  constructor(a2a: MoeAllToAll, dtype: D, rows: number, columns: number) {
    this.#a2a = a2a;
    this.#tensor = a2a.empty(dtype, [rows, columns]);
    this.host =
      this.#tensor.device.type === "cpu"
        ? (this.#tensor.data as TypedArrayOf<D>)
        : new (typedArrayOf(dtype))(rows * columns);
  }

  /** The first `rows` rows as they are on the host now. */
  async first(rows: number): Promise<Tensor> {
    const { dtype, device, data, shape } = this.#tensor;
    const part = { dtype, device, shape: [rows, shape[1]!] };
    const values = this.host.subarray(0, numElements(part.shape));
    if (device.type === "cpu") return { ...part, data: values } as Tensor;
    const onDevice = { ...part, data } as Tensor;
    await this.#a2a.write(onDevice, values);
    return onDevice;
  }
}

/** A tensor's elements, where this thread can read them: the tensor's own memory if it is on the host, else a copy. */
export async function hostData<D extends DType>(
  a2a: MoeAllToAll,
  tensor: Tensor,
  dtype: D,
): Promise<TypedArrayOf<D>> {
  if (tensor.dtype !== dtype) throw new TypeError(`a ${tensor.dtype} tensor came where ${dtype} was due`);
  const data: TensorData =
    tensor.device.type === "cpu" ? (tensor.data as TensorData) : await a2a.read(tensor);
  return data as TypedArrayOf<D>;
}

/** Makes what was written to `hostData(tensor)` the tensor's contents. */
export async function giveBack(a2a: MoeAllToAll, tensor: Tensor, data: TensorData): Promise<void> {
  if (tensor.data !== data) await a2a.write(tensor, data);
}
