import { argumentError, checkSignal, type DispatchReport, describe, type ReadyOptions } from "@moe-a2a/core";
import type { CaptureInProgress, CudaContext } from "./context.js";
import type { Lane } from "./lane.js";
import { cudaError, PHASES } from "./native.js";
import { hasCompleted, makeReport, outcomeValues } from "./outcome.js";

/** More replays than this are enqueued beside this thread, since launches wait where the GPU's queue is full. */
const MOST_AT_ONCE = 64;
const POLL_US = 2000;

/** Rounds of one instance that were captured once and are enqueued again by one call. */
export class Graph {
  readonly #context: CudaContext;
  readonly #rounds: readonly Lane[];
  readonly #event: bigint;
  /** Tensors that the graph reads and writes live as long as it does. */
  readonly #uses: readonly unknown[];
  readonly #stream: bigint;
  #handle: bigint;

  /** @internal */
  constructor(context: CudaContext, capture: CaptureInProgress, handle: bigint) {
    this.#context = context;
    this.#rounds = capture.rounds.map(({ lane }) => lane);
    this.#uses = capture.uses;
    this.#stream = capture.stream;
    this.#handle = handle;
    this.#event = context.call("capture()", (native) => native.takeEvent(context.device.id));
  }

  /** Rounds that one replay plays. */
  get rounds(): number {
    return this.#rounds.length;
  }

  /**
   * Enqueues the captured rounds `times` times, one after another; every active rank has to replay as many. Never waits.
   *
   * @param times at least 1
   * @param options.stream default the stream that the graph was captured on
   * @throws ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_STATE, ERR_MOE_A2A_CUDA
   */
  replay(times = 1, options: { readonly stream?: bigint } = {}): Replay {
    const context = this.#context;
    if (!Number.isInteger(times) || times < 1 || times > 2 ** 31 - 1) {
      throw argumentError(
        context.rank,
        "times",
        `is ${describe(times)}; it must be an integer from 1 to 2147483647`,
      );
    }
    context.checkUsable("replay()");
    if (this.#handle === 0n) {
      throw context.stateError("replay()", "disposed", "this graph was disposed of; capture it anew");
    }
    checkFree(context, "replay()");
    const stream = options.stream ?? this.#stream;
    const { id: device } = context.device;
    const [handle, event] = [this.#handle, this.#event];
    let enqueued: Promise<void> | undefined;
    if (times <= MOST_AT_ONCE) {
      context.call("replay()", (native) => {
        native.launchGraph(device, handle, stream, times);
        native.recordEvent(device, event, stream);
        native.noteReplay(context.id, stream);
      });
    } else enqueued = this.#enqueueSlowly(times, stream);
    const played = this.#rounds.map((lane) => {
      const before = this.#rounds.indexOf(lane);
      return { lane, before };
    });
    const last: { lane: Lane; round: number }[] = [];
    const perReplay = new Map<Lane, number>();
    for (const { lane } of played) perReplay.set(lane, (perReplay.get(lane) ?? 0) + 1);
    for (const [lane, count] of perReplay) {
      lane.nextRound += count * times;
      lane.current = undefined;
      lane.lastCombine = undefined;
      lane.tail = "replay";
      lane.replayEvent = event;
      for (let i = count; i > 0; i--) last.push({ lane, round: lane.nextRound - i });
    }
    return new Replay(context, { event, enqueued, last, keep: this.#uses });
  }

  /** Destroys the graph, once its replays have run. Idempotent. */
  dispose(): void {
    const handle = this.#handle;
    if (handle === 0n) return;
    this.#handle = 0n;
    this.#context.native.destroyGraph(this.#context.device.id, handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async #enqueueSlowly(times: number, stream: bigint): Promise<void> {
    const context = this.#context;
    const { id: device } = context.device;
    context.replaying++;
    const launch = context.call("replay()", (native) =>
      native.launchGraphSlowly(device, this.#handle, stream, times),
    );
    const end = context.tokens.end(launch);
    context.busy = Promise.allSettled([context.busy, end]);
    try {
      await end;
      context.call("replay()", (native) => {
        native.recordEvent(device, this.#event, stream);
        native.noteReplay(context.id, stream);
      });
    } catch (error) {
      throw cudaError(error, `rank ${context.rank}: replay()`);
    } finally {
      context.replaying--;
    }
  }
}

interface ReplayParts {
  readonly event: bigint;
  /** Settles once all replays are enqueued, where that takes time. */
  readonly enqueued: Promise<void> | undefined;
  /** The rounds of the last replay. */
  readonly last: readonly { readonly lane: Lane; readonly round: number }[];
  readonly keep: unknown;
}

/** Replays that were enqueued together. */
export class Replay {
  readonly #context: CudaContext;
  readonly #parts: ReplayParts;
  readonly #epoch: CudaContext["epoch"];
  #reports: readonly DispatchReport[] | undefined;
  #error: unknown;

  /** @internal */
  constructor(context: CudaContext, parts: ReplayParts) {
    this.#context = context;
    this.#parts = parts;
    this.#epoch = context.epoch;
    // Who does not ask is not told.
    parts.enqueued?.catch(() => {});
  }

  /**
   * Waits until all replays have run. May be called again.
   *
   * @returns the reports of the last replay's dispatches, by lane and round
   * @throws (rejects) with the first failure of any of the rounds
   */
  async ready(options?: ReadyOptions): Promise<readonly DispatchReport[]> {
    const context = this.#context;
    const signal = checkSignal(context.rank, options?.signal);
    if (signal?.aborted) throw signal.reason;
    const passed = this.#passed();
    if (!signal) await passed;
    else {
      let abandon: (() => void) | undefined;
      const abandoned = new Promise<never>((_, reject) => {
        abandon = () => reject(signal.reason);
        signal.addEventListener("abort", abandon, { once: true });
      });
      passed.catch(() => {});
      try {
        await Promise.race([passed, abandoned]);
      } finally {
        signal.removeEventListener("abort", abandon!);
      }
    }
    return this.#decide();
  }

  /** As `ready()`, blocking the thread; not while many replays are still being enqueued. */
  readySync(): readonly DispatchReport[] {
    const context = this.#context;
    if (context.replaying > 0) {
      throw context.stateError(
        "Replay.readySync()",
        "replaying",
        "the replays are still being enqueued; await ready()",
      );
    }
    const poll = () =>
      context.call("Replay.readySync()", (native) =>
        native.pollEvent(context.device.id, this.#parts.event, POLL_US),
      );
    while (!this.#epoch.givenUp && !poll()) context.markDepartures();
    return this.#decide();
  }

  async #passed(): Promise<void> {
    const context = this.#context;
    if (this.#reports || this.#error || this.#epoch.givenUp) return;
    context.beginWait();
    try {
      await this.#parts.enqueued;
      if (this.#epoch.givenUp) return;
      const token = context.call("replay()", (native) =>
        native.waitFor(context.device.id, this.#parts.event),
      );
      await context.tokens.end(token);
    } catch (error) {
      throw cudaError(error, `rank ${context.rank}: replay()`);
    } finally {
      context.endWait();
    }
  }

  #decide(): readonly DispatchReport[] {
    const context = this.#context;
    if (this.#reports) return this.#reports;
    this.#error ??= this.#epoch.givenUp;
    if (!this.#error) {
      const reports: DispatchReport[] = [];
      for (const { lane, round } of this.#parts.last) {
        const values = outcomeValues();
        // A dispatch whose combine has completed has completed as well.
        for (const kind of ["combine", "dispatch"] as const) {
          const failure = context.call("replay()", (native, id) =>
            native.outcome(id, lane.index, PHASES[kind], round >>> 0, values),
          );
          if (!hasCompleted(values)) this.#error ??= context.fail(failure);
        }
        reports.push(makeReport(values, { round, lane: lane.index, ranks: context.config.epSize }));
      }
      if (!this.#error) {
        this.#reports = reports;
        return reports;
      }
    }
    if (context.failure) context.failure.told = true;
    throw this.#error;
  }
}

/** @throws STATE where a lane is in the middle of a round */
export function checkFree(context: CudaContext, call: string): void {
  if (context.replaying > 0) {
    throw context.stateError(call, "busy", "replays are still being enqueued; await their ready() first");
  }
  for (const lane of context.lanes) {
    const problem = lane.current?.unfinished;
    if (problem === undefined) continue;
    throw context.stateError(
      call,
      "busy",
      `lane ${lane.index} is in round ${lane.nextRound - 1}: ${problem}`,
    );
  }
}

/**
 * Captures the rounds that `fn` enqueues.
 *
 * @throws (rejects) what `fn` throws; ERR_MOE_A2A_STATE where a captured dispatch was not combined; ERR_MOE_A2A_CUDA
 */
export async function captureGraph(
  context: CudaContext,
  fn: (stream: bigint) => unknown,
  stream: bigint,
): Promise<Graph> {
  const { id: device } = context.device;
  const former = context.lanes.map(({ nextRound, current, lastCombine }) => ({
    nextRound,
    current,
    lastCombine,
  }));
  const capture: CaptureInProgress = { stream, uses: [], rounds: [] };
  context.call("capture()", (native) => native.beginCapture(device, stream));
  context.capture = capture;
  let handle = 0n;
  try {
    await fn(stream);
    const open = capture.rounds.find(({ combined }) => !combined);
    if (open) {
      throw context.stateError(
        "capture()",
        "captured",
        `a dispatch on lane ${open.lane.index} was captured without its combine; call combine() before the capture ends`,
      );
    }
    if (capture.rounds.length === 0) {
      throw context.stateError(
        "capture()",
        "captured",
        "the capture holds no round; call dispatch() and combine() in it",
      );
    }
    context.checkOpen("capture()");
    handle = context.call("capture()", (native) => native.endCapture(device, stream));
    return new Graph(context, capture, handle);
  } finally {
    if (handle === 0n) abandon(context, stream);
    context.capture = undefined;
    // Nothing of it has run.
    for (const [l, lane] of context.lanes.entries()) Object.assign(lane, former[l]);
    if (!context.isClosed()) context.releaseDeferred();
  }
}

/** Ends a capture that came to nothing. */
function abandon({ native, device }: CudaContext, stream: bigint): void {
  try {
    native.destroyGraph(device.id, native.endCapture(device.id, stream));
  } catch {
    // It was broken, or is over already.
  }
}
