import {
  type CheckContext,
  type CudaTensor,
  InstanceState,
  type MissingKind,
  type MoeA2AError,
  type ResolvedConfig,
  type WorkspaceLayout,
} from "@moe-a2a/core";
import { Lane } from "./lane.js";
import { guarded, type Native, type NativeFailure } from "./native.js";
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
  activeRanks: readonly number[];
  generation = 0;
  /** The time between two resets: rounds belong to one, and may be given up together. */
  epoch: Epoch = { givenUp: undefined };
  capture: CaptureInProgress | undefined;
  /** Whether phases that are enqueued now are timed. */
  #timing = false;
  /** Replays that a thread is still enqueuing. */
  replaying = 0;
  /** Settles when the addon is done with what it does with this rank on another thread. */
  busy: Promise<unknown> = Promise.resolve();
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
    const [window, own, ...handles] = native.addresses(id) as unknown as bigint[];
    this.window = window!;
    this.own = own!;
    const workspace = [
      { start: this.window, end: this.window + BigInt(layout.windowBytes) },
      { start: this.own, end: this.own + BigInt(layout.privateBytes) },
    ];
    const combineBytes = BigInt(config.epSize * config.maxTokensPerRank * config.maxCombineBytesPerToken);
    this.lanes = layout.lanes.map((at, l) => {
      const [stream, dispatch, combine] = handles.slice(3 * l, 3 * l + 3) as [bigint, bigint, bigint];
      const start = this.window + BigInt(at.combine);
      const combineBuffer = { start, end: start + combineBytes };
      const lane = new Lane(l as 0 | 1, at, { stream, dispatch, combine }, parts.firstRound, {
        workspace,
        combineBuffer,
        output: this.own + BigInt(at.output),
      });
      native.bindLane(id, l, lane.block.memory);
      return lane;
    });
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
    // What the library takes for the rank's own stream.
    const actual = stream === 0n ? this.lanes[0]!.stream : stream;
    return clockOf(this.native, this.tokens, this.device.id).begin(actual);
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

  /** Gives a tensor's memory back, after what is enqueued; while a capture is under way that cannot be told. */
  release(address: bigint): void {
    if (this.capture) this.#releases.push(address);
    else this.native.release(this.id, address);
  }

  /** Gives back what was to be given back during a capture. */
  releaseDeferred(): void {
    for (const address of this.#releases.splice(0)) this.native.release(this.id, address);
  }

  /** A token's end, as this rank's own affair. @throws (rejects) ERR_MOE_A2A_CUDA */
  async occupy(where: string, start: (native: Native, id: number) => number): Promise<void> {
    const token = this.call(where, start);
    const end = this.tokens.end(token);
    this.busy = end.catch(() => {});
    try {
      await end;
    } catch (error) {
      throw guarded(`rank ${this.rank}: ${where}`, () => {
        throw error;
      });
    }
  }
}
