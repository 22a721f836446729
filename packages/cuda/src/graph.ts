import { argumentError, checkStream, describe } from "@moe-a2a/core";
import type { CaptureInProgress, CudaContext } from "./context.js";
import type { Lane } from "./lane.js";
import { ReplayEvent } from "./lane-events.js";
import { cudaError } from "./native.js";
import { Replay, type ReplayedRound } from "./replay.js";

/** More replays than this are enqueued beside this thread, since launches wait where the GPU's queue is full. */
const MOST_AT_ONCE = 64;

/** Graphs that were forgotten. */
const forgotten = new FinalizationRegistry<{ readonly context: CudaContext; readonly handle: bigint }>(
  ({ context: { native, device }, handle }) => native.destroyGraph(device.id, handle),
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
    const { id: device } = context.device;
    if (context.native.isCapturing(device, stream)) {
      const problem = `0x${stream.toString(16)} is being captured; replay on another one, or later`;
      throw argumentError(context.rank, "stream", problem);
    }
    const handle = this.#handle;
    if (times > MOST_AT_ONCE) {
      const launch = context.call("replay()", (native) =>
        native.launchGraphSlowly(device, handle, stream, times),
      );
      const rounds = this.#takeRounds(times);
      const enqueued = this.#enqueueSlowly(launch, stream, rounds);
      context.beginEnqueuing(enqueued);
      return new Replay(context, { enqueued, rounds, keep: this.#uses });
    }
    context.call("replay()", (native) => native.launchGraph(device, handle, stream, times));
    const rounds = this.#takeRounds(times);
    this.#noteReplays(stream, rounds);
    return new Replay(context, { enqueued: undefined, rounds, keep: this.#uses });
  }

  /** Destroys the graph, once its replays have run. Idempotent. */
  dispose(): void {
    const handle = this.#handle;
    if (handle === 0n) return;
    this.#handle = 0n;
    forgotten.unregister(this);
    const { native, device, enqueuing } = this.#context;
    const destroy = () => native.destroyGraph(device.id, handle);
    // Its replays may be what is being enqueued.
    if (enqueuing) void enqueuing.then(destroy).catch(() => {});
    else destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async #enqueueSlowly(launch: number, stream: bigint, rounds: readonly ReplayedRound[]): Promise<void> {
    try {
      await this.#context.tokens.end(launch);
    } catch (error) {
      throw cudaError(error, `rank ${this.#context.rank}: replay()`);
    }
    this.#noteReplays(stream, rounds);
  }

  /** Numbers the rounds of so many replays. @returns those of the last one, by lane */
  #takeRounds(times: number): readonly ReplayedRound[] {
    const last: ReplayedRound[] = [];
    for (const lane of new Set(this.#lanes)) {
      const count = this.#lanes.filter((each) => each === lane).length;
      lane.takeReplay(count * times);
      for (let i = count; i > 0; i--) last.push({ lane, round: lane.nextRound - i });
    }
    return last;
  }

  /** Notes that replays that end with these rounds are enqueued. */
  #noteReplays(stream: bigint, rounds: readonly ReplayedRound[]): void {
    const context = this.#context;
    const { id: device } = context.device;
    const passed = context.call("replay()", (native) => new ReplayEvent(native, device));
    for (const [lane, round] of new Map(rounds.map(({ lane, round }) => [lane, round]))) {
      lane.noteReplay(passed, round);
    }
    context.call("replay()", (native, id) => {
      native.recordEvent(device, passed.event, stream);
      native.noteReplay(id, stream);
    });
  }
}
