import { argumentError, checkStream, describe, MoeA2AError } from "@moe-a2a/core";
import type { CaptureInProgress, CudaContext } from "./context.js";
import type { Lane } from "./lane.js";
import type { ReplayEvent } from "./lane-events.js";
import { CAPTURED_OTHERWISE, cudaError } from "./native.js";
import { Replay, type ReplayedRound } from "./replay.js";

/** More replays than this are enqueued beside this thread, since launches wait where the GPU's queue is full. */
const MOST_AT_ONCE = 64;

/** Graphs that were forgotten. */
const forgotten = new FinalizationRegistry<{ readonly context: CudaContext; readonly handle: bigint }>(
  ({ context: { native, device }, handle }) => {
    try {
      native.destroyGraph(device.id, handle);
    } catch {
      // On a broken device there is nobody to tell.
    }
  },
);

/** Rounds of one instance that were captured once and are enqueued again by one call. */
export class Graph {
  readonly #context: CudaContext;
  /** Of each round, in order. */
  readonly #lanes: readonly Lane[];
  /** Tensors that the graph reads and writes live as long as it does. */
  readonly #uses: readonly unknown[];
  readonly #stream: bigint;
  #handle: bigint;

  /** @internal */
  constructor(context: CudaContext, capture: CaptureInProgress, handle: bigint) {
    this.#context = context;
    this.#lanes = capture.rounds.map(({ lane }) => lane);
    this.#uses = capture.uses;
    this.#stream = capture.stream;
    this.#handle = handle;
    forgotten.register(this, { context, handle }, this);
  }

  /** Rounds that one replay plays. */
  get rounds(): number {
    return this.#lanes.length;
  }

  /**
   * Enqueues the captured rounds `times` times, one after another; every active rank has to replay as many. Never waits.
   *
   * @param times at least 1
   * @param options.stream default the stream that the graph was captured on
   * @throws ERR_MOE_A2A_ARGUMENT also for a stream that is being captured; ERR_MOE_A2A_STATE, ERR_MOE_A2A_CUDA
   */
  replay(times = 1, options?: { readonly stream?: bigint }): Replay {
    const context = this.#context;
    if (!Number.isInteger(times) || times < 1 || times > 2 ** 31 - 1) {
      throw argumentError(
        context.rank,
        "times",
        `is ${describe(times)}; it must be an integer from 1 to 2147483647`,
      );
    }
    const stream = context.actual(checkStream(context.checks, options?.stream) ?? this.#stream);
    context.checkUsable("replay()");
    if (this.#handle === 0n) {
      throw context.stateError("replay()", "disposed", "this graph was disposed of; capture it anew");
    }
    context.checkNotCapturing("replay()");
    context.checkFree("replay()");
    const passed = context.call("replay()", () => context.replayEvents.take());
    passed.hold();
    try {
      const enqueued =
        times > MOST_AT_ONCE
          ? this.#enqueueSlowly(times, stream, passed)
          : this.#enqueue(times, stream, passed);
      const rounds = this.#takeRounds(times, passed);
      return new Replay(context, { enqueued, rounds, keep: this.#uses });
    } finally {
      passed.letGo();
    }
  }

  /** Destroys the graph, once its replays have run. Idempotent. */
  dispose(): void {
    const handle = this.#handle;
    if (handle === 0n) return;
    this.#handle = 0n;
    forgotten.unregister(this);
    const context = this.#context;
    const destroy = () =>
      context.call("Graph.dispose()", (native) => native.destroyGraph(context.device.id, handle));
    // Its replays may be what is being enqueued.
    if (context.enqueuing) void context.enqueuing.then(destroy).catch(() => {});
    else destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #enqueue(times: number, stream: bigint, { event }: ReplayEvent): undefined {
    const context = this.#context;
    try {
      context.native.replay(context.id, this.#handle, stream, times, event);
    } catch (error) {
      throw context.launchError("replay()", stream, error);
    }
  }

  #enqueueSlowly(times: number, stream: bigint, { event }: ReplayEvent): Promise<void> {
    const context = this.#context;
    // Later there is nobody to be told by throwing.
    if (context.call("replay()", (native) => native.isCapturing(context.device.id, stream))) {
      throw context.launchError("replay()", stream, { result: CAPTURED_OTHERWISE });
    }
    const launch = context.call("replay()", (native, id) =>
      native.replaySlowly(id, this.#handle, stream, times, event),
    );
    const enqueued = context.tokens.end(launch).catch((cause: unknown) => {
      const error = cudaError(cause, `rank ${context.rank}: replay()`);
      // Its rounds are counted, and some will not run: only a reset leads on.
      if (error instanceof MoeA2AError) context.failure ??= { error, told: true };
      throw error;
    });
    context.beginEnqueuing(enqueued, this);
    return enqueued;
  }

  /** Numbers the rounds of so many replays, which end with an event. @returns those of the last one, by lane */
  #takeRounds(times: number, passed: ReplayEvent): readonly ReplayedRound[] {
    const last: ReplayedRound[] = [];
    for (const lane of new Set(this.#lanes)) {
      const count = this.#lanes.filter((each) => each === lane).length;
      lane.takeReplay(count * times, passed);
      for (let i = count; i > 0; i--) last.push({ lane, round: lane.nextRound - i });
    }
    return last;
  }
}
