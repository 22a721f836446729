import { argumentError } from "@moe-a2a/core";
import type { CaptureInProgress, CudaContext } from "./context.js";
import { Graph } from "./graph.js";

/**
 * Captures the rounds that `fn` enqueues.
 *
 * @throws (rejects) what `fn` throws; ERR_MOE_A2A_ARGUMENT where another instance enqueues on the stream; ERR_MOE_A2A_STATE where a captured dispatch was not combined, or `close()` was called
 * meanwhile; ERR_MOE_A2A_CUDA
 */
export async function captureGraph(
  context: CudaContext,
  fn: (stream: bigint) => unknown,
  stream: bigint,
): Promise<Graph> {
  const { id: device } = context.device;
  if (context.native.isLaunching(stream)) {
    const problem = "has replays that are still being enqueued; await their ready() first";
    throw argumentError(context.rank, "stream", `0x${stream.toString(16)} ${problem}`);
  }
  const former = context.lanes.map(({ nextRound, current, lastCombine }) => ({
    nextRound,
    current,
    lastCombine,
  }));
  const id = context.call("capture()", (native) => native.beginCapture(device, stream));
  const capture: CaptureInProgress = { stream, id, isOpen: true, uses: [], rounds: [] };
  context.capture = capture;
  try {
    await fn(stream);
    context.checkOpen("capture()");
    checkWhole(context, capture);
    capture.isOpen = false;
    const handle = context.call("capture()", (native) => native.endCapture(device, stream));
    return new Graph(context, capture, handle);
  } finally {
    breakOffCapture(context);
    context.capture = undefined;
    // Nothing of it has run.
    for (const [l, lane] of context.lanes.entries()) Object.assign(lane, former[l]);
    context.releaseDeferred();
  }
}

/** @throws ERR_MOE_A2A_STATE where there is no round in it, or one that is not whole */
function checkWhole(context: CudaContext, { rounds }: CaptureInProgress): void {
  const open = rounds.find(({ combined }) => !combined);
  if (open) {
    const problem = `a dispatch on lane ${open.lane.index} was captured without its combine; call combine() before the capture ends`;
    throw context.stateError("capture()", "captured", problem);
  }
  if (rounds.length === 0) {
    const problem = "the capture holds no round; call dispatch() and combine() in it";
    throw context.stateError("capture()", "captured", problem);
  }
}

/** Ends the capture under way, if there is one, for nothing: before its stream goes. */
export function breakOffCapture({ native, device, capture }: CudaContext): void {
  if (!capture?.isOpen) return;
  capture.isOpen = false;
  try {
    native.destroyGraph(device.id, native.endCapture(device.id, capture.stream));
  } catch {
    // It was broken, or is over already.
  }
}
