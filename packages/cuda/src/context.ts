import {
  argumentError,
  type CheckContext,
  type CudaTensor,
  InstanceState,
  type MissingKind,
  type MoeA2AError,
  type ResolvedConfig,
  ROUND_BUFFERS,
  type WorkspaceLayout,
} from "@moe-a2a/core";
import { Lane } from "./lane.js";
import { ReplayEvents } from "./lane-events.js";
import {
  CAPTURED_OTHERWISE,
  cudaError,
  guarded,
  type Native,
  type NativeError,
  type NativeFailure,
} from "./native.js";
import { type FailureContext, failureError, MISSING_KINDS } from "./outcome.js";
import type { Peers } from "./peers.js";
import { clockOf, type PhaseTimer } from "./phase-clock.js";
import type { Tokens } from "./tokens.js";

/** How often a rank that waits looks for peers that have left, in milliseconds. */
const WATCH_MS = 5;

export interface ContextParts {
  readonly native: Native;
  readonly tokens: Tokens;
  /** The addon's number of this rank. */
  readonly id: number;
  readonly config: ResolvedConfig;
  readonly layout: WorkspaceLayout;
  readonly rank: number;
  readonly device: number;
  readonly peers: Peers;
  readonly firstRound: number;
}

/** What becomes of the rounds of a time between two resets that did not end in it. */
export interface Epoch {
  givenUp: MoeA2AError | undefined;
}

/** A capture under way. */
export interface CaptureInProgress {
  readonly stream: bigint;
  /** What the library calls it. */
  readonly id: bigint;
  /** Whether its stream still captures. */
  isOpen: boolean;
  /** Whatever the graph will use, so that it is kept. */
  readonly uses: unknown[];
  /** Rounds captured so far, in order. */
  readonly rounds: { readonly lane: Lane; combined: boolean }[];
}

/** What the parts of one rank's instance share. */
export class CudaContext extends InstanceState implements FailureContext {
  readonly native: Native;
  readonly tokens: Tokens;
  readonly id: number;
  readonly config: ResolvedConfig;
  readonly layout: WorkspaceLayout;
  readonly peers: Peers;
  readonly device: CudaTensor["device"];
  /** Device addresses of this rank's window and private memory. */
  readonly window: bigint;
  readonly own: bigint;
  readonly lanes: readonly Lane[];
  readonly checks: CheckContext;
  readonly replayEvents: ReplayEvents;
  activeRanks: readonly number[];
  generation = 0;
  /** The time between two resets: rounds belong to one, and may be given up together. */
  epoch: Epoch = { givenUp: undefined };
  capture: CaptureInProgress | undefined;
  /** Whether phases that are enqueued now are timed. */
  #timing = false;
  /** Settles once replays are enqueued that another thread is still enqueuing; never rejects. */
  enqueuing: Promise<void> | undefined;
  /** The graph that they are of, which must not be forgotten meanwhile. */
  enqueuedGraph: object | undefined;
  /** What other threads do with the rank, which has to be left alone meanwhile. Never rejects. */
  #occupation: Promise<void> | undefined;
  readonly #marked = new Set<number>();
  readonly #releases: bigint[] = [];
  #waits = 0;
  #watch: ReturnType<typeof setInterval> | undefined;

  constructor(parts: ContextParts) {
    super(parts.rank);
    const { native, id, config, layout, device } = parts;
    this.native = native;
    this.tokens = parts.tokens;
    this.id = id;
    this.config = config;
    this.layout = layout;
    this.peers = parts.peers;
    this.device = Object.freeze({ type: "cuda", id: device });
    const [window, own, ...handles] = native.addresses(id);
    this.window = window!;
    this.own = own!;
    const within = (base: bigint, start: number, bytes: number) => ({
      start: base + BigInt(start),
      end: base + BigInt(start + bytes),
    });
    const { epSize, maxTokensPerRank, maxCombineBytesPerToken } = config;
    const workspace = [
      within(this.window, 0, layout.windowBytes),
      within(this.own, 0, layout.privateBytes),
    ] as const;
    const perLane = handles.length / layout.lanes.length;
    const perKind = (perLane - 1) / 2;
    this.lanes = layout.lanes.map((at, l) => {
      const [stream, ...events] = handles.slice(perLane * l, perLane * (l + 1));
      const laneHandles = {
        stream: stream!,
        dispatch: events.slice(0, perKind),
        combine: events.slice(perKind),
      };
      const lane = new Lane(l as 0 | 1, at, laneHandles, parts.firstRound, {
        workspace,
        shown: [
          within(this.window, at.recv, ROUND_BUFFERS * layout.recvBufferBytes),
          within(this.own, at.recvCounts, 4 * epSize),
          within(this.own, at.gatheredStats, epSize * layout.statsRowBytes),
        ],
        combineBuffer: within(this.window, at.combine, epSize * maxTokensPerRank * maxCombineBytesPerToken),
        output: this.own + BigInt(at.output),
      });
      native.bindLane(id, l, lane.block.memory);
      return lane;
    });
    this.replayEvents = new ReplayEvents(native, device);
    this.checks = { config, rank: parts.rank, device: "cuda", deviceId: device };
    this.activeRanks = Object.freeze(Array.from({ length: config.epSize }, (_, r) => r));
  }

  override isLeftOut(): boolean {
    return this.peers.generation !== this.generation;
  }

  /** Runs a call of the addon for this rank. @throws ERR_MOE_A2A_CUDA */
  call<R>(where: string, run: (native: Native, id: number) => R): R {
    return guarded(`rank ${this.rank}: ${where}`, () => run(this.native, this.id));
  }

  /** What a call is refused with that the library would not launch. */
  launchError(call: string, stream: bigint, error: unknown): unknown {
    if ((error as Partial<NativeError> | undefined)?.result === CAPTURED_OTHERWISE) {
      const problem = this.capture
        ? "is not part of the capture that is under way; leave it out, or make it wait for an event of the capture"
        : "is being captured, but not by this instance, which would not know when the round runs; use capture()";
      return argumentError(this.rank, "stream", `0x${stream.toString(16)} ${problem}`);
    }
    return cudaError(error, `rank ${this.rank}: ${call}`);
  }

  /** @throws STATE during a capture */
  checkNotCapturing(call: string): void {
    if (this.capture) throw this.stateError(call, "capturing", "a capture is under way; await it first");
  }

  /** @throws STATE where a lane is in the middle of a round, or replays are being enqueued */
  checkFree(call: string): void {
    if (this.enqueuing) {
      throw this.stateError(call, "busy", "replays are still being enqueued; await their ready() first");
    }
    for (const { current, index, nextRound } of this.lanes) {
      const problem = current?.unfinished;
      if (problem === undefined) continue;
      throw this.stateError(call, "busy", `lane ${index} is in round ${nextRound - 1}: ${problem}`);
    }
  }

  /** The stream that the library takes: 0 stands for the rank's own. */
  actual(stream: bigint): bigint {
    return stream === 0n ? this.lanes[0]!.stream : stream;
  }

  nearRound(lane: number): number {
    return this.lanes[lane]?.nextRound ?? 0;
  }

  /** Times the phases that `fn` enqueues before it returns. */
  timed<R>(fn: () => R): R {
    const before = this.#timing;
    this.#timing = true;
    try {
      return fn();
    } finally {
      this.#timing = before;
    }
  }

  /** Marks where a phase begins that is about to be enqueued, if somebody wants to know. Never throws. */
  timePhase(stream: bigint): PhaseTimer | undefined {
    if (!this.#timing || this.capture) return undefined;
    return clockOf(this.native, this.tokens, this.device.id).begin(this.actual(stream));
  }

  /** Whether this rank has failed, also where nobody has asked so far. */
  hasFailed(): boolean {
    return this.failure !== undefined || this.native.hasFailed(this.id);
  }

  /** Takes the device's verdict; only the first failure counts. */
  fail(failure: NativeFailure | undefined): MoeA2AError {
    if (!this.failure && failure) this.failure = { error: failureError(this, failure), told: false };
    return (
      this.failure?.error ??
      this.stateError("round", "failed", "this round did not complete, and the device does not say why")
    );
  }

  /** Ends whatever is in flight on this rank, also for those who ask later. */
  giveUpRounds(error: MoeA2AError): void {
    this.epoch.givenUp = error;
    this.epoch = { givenUp: undefined };
    for (const lane of this.lanes) for (const phase of [...lane.waiting]) phase.giveUp(error);
  }

  /** Takes a new membership, and clears what failed before. */
  startGeneration(generation: number, activeRanks: readonly number[], nextRounds: readonly number[]): void {
    this.generation = generation;
    this.activeRanks = Object.freeze([...activeRanks]);
    this.failure = undefined;
    for (const lane of this.lanes) lane.restart(nextRounds[lane.index] as number);
  }

  /** Tells the kernels of peers that have left since they were last looked for. */
  markDepartures(): void {
    if (this.state !== "open") return;
    for (let i = 0; i < this.activeRanks.length; i++) {
      const peer = this.activeRanks[i]!;
      if (peer === this.rank || this.#marked.has(peer)) continue;
      const kind: MissingKind | undefined = this.peers.departure(peer);
      if (!kind) continue;
      this.#marked.add(peer);
      this.call("a peer has left", (native, id) => native.markGone(id, peer, MISSING_KINDS.indexOf(kind)));
    }
  }

  /** Looks for peers that leave, as long as somebody waits. */
  beginWait(): void {
    this.#waits++;
    this.#watch ??= setInterval(() => {
      try {
        this.markDepartures();
      } catch {
        // The device is broken, which the wait itself finds out.
      }
    }, WATCH_MS).unref();
  }

  endWait(): void {
    if (--this.#waits > 0) return;
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  /** Gives a tensor's memory back, after what is enqueued: during a capture, or slow replays, that cannot be told yet. */
  release(address: bigint): void {
    if (this.capture?.isOpen || this.enqueuing) this.#releases.push(address);
    else this.native.release(this.id, address);
  }

  /** Gives back what could not be given back before. */
  releaseDeferred(): void {
    for (const address of this.#releases.splice(0)) this.native.release(this.id, address);
  }

  /** Another thread enqueues replays of `graph`: what has to come after them has to wait for that. */
  beginEnqueuing(enqueued: Promise<void>, graph: object): void {
    this.enqueuedGraph = graph;
    const over = () => {
      this.enqueuing = undefined;
      this.enqueuedGraph = undefined;
      this.releaseDeferred();
    };
    this.enqueuing = enqueued.then(over, over);
  }

  get isOccupied(): boolean {
    return this.#occupation !== undefined;
  }

  /** Settles once no other thread works with this rank. Never rejects. */
  async unoccupied(): Promise<void> {
    while (this.#occupation) await this.#occupation;
  }

  /** A token's end, as this rank's own affair. @throws (rejects) ERR_MOE_A2A_CUDA */
  async occupy(where: string, start: (native: Native, id: number) => number): Promise<void> {
    const token = this.call(where, start);
    const end = this.tokens.end(token);
    const over = () => {
      this.#occupation = undefined;
    };
    this.#occupation = end.then(over, over);
    try {
      await end;
    } catch (error) {
      throw guarded(`rank ${this.rank}: ${where}`, () => {
        throw error;
      });
    }
  }
}
