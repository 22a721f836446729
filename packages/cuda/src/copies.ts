import {
  byteLengthOf,
  type CheckedTensor,
  type CudaTensor,
  numElements,
  type TensorData,
  typedArrayOf,
} from "@moe-a2a/core";
import type { CudaContext } from "./context.js";
import type { Lane } from "./lane.js";
import { type MemoryRange, overlaps, rangeOf } from "./memory-range.js";
import { cudaError } from "./native.js";

/**
 * Bytes that go through pinned memory at once, of each copy. How many copies are under way is not limited: one may wait for
 * peers that wait for another.
 */
const CHUNK_BYTES = 4 << 20;
/** What a copy has to come after. */
class Order {
  readonly events: BigUint64Array = new BigUint64Array(8);
  readonly streams: BigUint64Array = new BigUint64Array(8);
  eventCount = 0;
  streamCount = 0;
  event(event: bigint): void {
    this.events[this.eventCount++] = event;
  }

  stream(stream: bigint): void {
    this.streams[this.streamCount++] = stream;
  }
}

/**
 * A copy comes after the phases that may use its memory, and after no others: those may wait for peers that wait for this
 * copy. Of a round whose dispatch came last, memory that nobody knows may be what kernels behind it make, so reading it
 * comes after them too, where they are on the lane's own stream.
 */
function orderAfter(order: Order, lane: Lane, range: MemoryRange, kind: "read" | "write"): void {
  const touches = (memory: readonly MemoryRange[]) => memory.some((other) => overlaps(other, range));
  const { tail, events } = lane;
  if (tail === "nothing") return;
  if (tail === "replay") {
    // None where the GPU would not take it.
    const { lastReplay } = events;
    if (lastReplay !== undefined) order.event(lastReplay);
  } else if (tail === "combine") {
    // Earlier phases come before the dispatch.
    order.event(events.last(touches(lane.combineMemory()) ? "combine" : "dispatch"));
  } else if (kind === "write") {
    order.event(touches(lane.dispatchMemory()) ? events.last("dispatch") : lane.beforeDispatch);
  } else if (touches(lane.combineOutput()) || touches(lane.dispatchInputs())) {
    order.event(lane.beforeDispatch);
  } else if (lane.tailIsOwn) order.stream(lane.stream);
  else order.event(events.last("dispatch"));
}

function orderOf(
  context: CudaContext,
  kind: "read" | "write",
  t: CheckedTensor<CudaTensor>,
  stream: bigint | undefined,
): Order {
  const order = new Order();
  const range = rangeOf(t);
  for (const lane of context.lanes) orderAfter(order, lane, range, kind);
  if (stream !== undefined) order.stream(stream);
  return order;
}

type Enqueue = (at: number, bytes: number, order: Order) => number;

/** Copies chunk by chunk; each chunk's token is handed to `over` once it is there. */
async function inChunks(
  context: CudaContext,
  where: string,
  bytes: number,
  makeOrder: () => Order,
  enqueue: Enqueue,
  over: (token: number, at: number, bytes: number) => void,
): Promise<void> {
  // Only then is there something to come after.
  if (context.enqueuing) await context.enqueuing;
  for (let at = 0; at < bytes; at += CHUNK_BYTES) {
    const size = Math.min(CHUNK_BYTES, bytes - at);
    try {
      if (context.isOccupied) await context.unoccupied();
      context.checkOpen(where);
      // What the first chunk came after has passed.
      const token = enqueue(at, size, at === 0 ? makeOrder() : new Order());
      await context.tokens.end(token);
      over(token, at, size);
    } catch (error) {
      throw cudaError(error, `rank ${context.rank}: ${where}`);
    }
  }
}

function bytesOf(data: TensorData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Copies `data` to the device. The first 4 MiB are taken at once, the rest until the promise settles. */
export function writeTensor(
  context: CudaContext,
  t: CheckedTensor<CudaTensor>,
  data: TensorData,
  stream: bigint | undefined,
): Promise<void> {
  const source = bytesOf(data);
  const { native, id } = context;
  const order = () => orderOf(context, "write", t, stream);
  const enqueue: Enqueue = (at, bytes, { events, eventCount, streams, streamCount }) => {
    const chunk = source.subarray(at, at + bytes);
    return native.upload(id, t.data + BigInt(at), chunk, events, eventCount, streams, streamCount);
  };
  return inChunks(context, "write()", source.length, order, enqueue, () => {});
}

/** Copies a tensor to the host. */
export async function readTensor(
  context: CudaContext,
  t: CheckedTensor<CudaTensor>,
  stream: bigint | undefined,
): Promise<TensorData> {
  const data = new (typedArrayOf(t.dtype))(numElements(t.shape)) as TensorData;
  const target = bytesOf(data);
  const { native, id } = context;
  const order = () => orderOf(context, "read", t, stream);
  const enqueue: Enqueue = (at, bytes, { events, eventCount, streams, streamCount }) =>
    native.download(id, t.data + BigInt(at), bytes, events, eventCount, streams, streamCount);
  await inChunks(context, "read()", byteLengthOf(t.dtype, t.shape), order, enqueue, (token, at, bytes) =>
    native.collect(token, target.subarray(at, at + bytes)),
  );
  return data;
}
