import {
  type CheckContext,
  type CheckedCombine,
  type CheckedDispatch,
  type CpuTensor,
  type GroupInternals,
  InstanceState,
  type MoeA2AError,
  ResetMeetings,
  type ResolvedConfig,
  type WorkspaceLayout,
} from "@moe-a2a/core";
import { phaseNumber } from "./abort-record.js";
import { Lane } from "./lane.js";
import { Accumulator } from "./loops/sum.js";
import { ControlWords, Window } from "./memory.js";
import type { Wire } from "./wire/wire.js";

export interface ContextParts {
  readonly config: ResolvedConfig;
  readonly layout: WorkspaceLayout;
  readonly rank: number;
  readonly group: GroupInternals;
  readonly instance: number;
  readonly own: Window;
  /** How this rank reaches the others. */
  readonly connect: (context: RankContext) => Wire;
  readonly privateMemory: ArrayBufferLike;
  readonly accumulatorBytes: number;
  readonly firstRound: number;
  readonly fillPadding: boolean;
}

/** What the parts of one rank's instance share. */
export class RankContext extends InstanceState {
  readonly config: ResolvedConfig;
  readonly layout: WorkspaceLayout;
  readonly group: GroupInternals;
  readonly own: Window;
  readonly wire: Wire;
  readonly control: ControlWords;
  readonly privateMemory: ArrayBufferLike;
  /** Views of all private memory, so that rounds need none of their own. */
  readonly private: Window;
  readonly accumulator: Accumulator;
  readonly lanes: readonly Lane[];
  readonly checks: CheckContext;
  readonly fillPadding: boolean;
  readonly maxTargets: number;
  /** Bytes of a lane's combine region. */
  readonly combineBytes: number;
  readonly isActive: Uint8Array;
  /** Never handed out: engines read frozen arrays at a sixth of the speed. */
  activeRanks: readonly number[];
  /** The same for callers, who must not change it. */
  shownRanks: readonly number[];
  generation = 0;
  /** How many resets have begun on this rank. */
  resets = 0;
  /** What the last arguments came to: those of the next round are often much the same. */
  keptDispatch: CheckedDispatch<CpuTensor> | undefined;
  keptCombine: CheckedCombine<CpuTensor> | undefined;
  readonly meetings: ResetMeetings;
  /** Per lane, the last phase that completed here; tells peers which of their phases a failure leaves alone. */
  readonly completed: number[];

  constructor(parts: ContextParts) {
    const { config, layout, rank, privateMemory } = parts;
    super(rank);
    this.config = config;
    this.layout = layout;
    this.group = parts.group;
    this.own = parts.own;
    this.control = new ControlWords(layout);
    this.privateMemory = privateMemory;
    this.private = new Window(privateMemory);
    this.accumulator = new Accumulator(privateMemory, layout.accumulator, parts.accumulatorBytes);
    this.lanes = layout.lanes.map(
      (_, l) => new Lane(l as 0 | 1, layout, config, privateMemory, parts.firstRound),
    );
    this.checks = { config, rank, device: "cpu" };
    this.fillPadding = parts.fillPadding;
    this.maxTargets = layout.maxTargets;
    this.combineBytes = config.epSize * config.maxTokensPerRank * config.maxCombineBytesPerToken;
    this.isActive = new Uint8Array(config.epSize).fill(1);
    this.activeRanks = Array.from({ length: config.epSize }, (_, r) => r);
    this.shownRanks = Object.freeze([...this.activeRanks]);
    this.completed = this.lanes.map(() => phaseNumber(parts.firstRound - 1, "combine"));
    const wire = parts.connect(this);
    this.wire = wire;
    this.meetings = new ResetMeetings({
      rank,
      epSize: config.epSize,
      instance: parts.instance,
      gatherings: parts.group.gatherings,
      words: {
        load: (r) => wire.meetingOf(r),
        store: (number) => wire.tellMeeting(number),
      },
      departure: (peer) => this.departure(peer),
    });
  }

  /** Takes a new membership, and clears what failed before. */
  startGeneration(generation: number, activeRanks: readonly number[], nextRounds: readonly number[]): void {
    this.generation = generation;
    this.activeRanks = [...activeRanks];
    this.shownRanks = Object.freeze([...activeRanks]);
    this.isActive.fill(0);
    for (const rank of activeRanks) this.isActive[rank] = 1;
    this.failure = undefined;
    for (const lane of this.lanes) {
      lane.nextRound = nextRounds[lane.index] as number;
      lane.current = undefined;
      this.completed[lane.index] = phaseNumber(lane.nextRound - 1, "combine");
    }
  }

  override isLeftOut(): boolean {
    return this.own.load(this.control.generation) !== this.generation;
  }

  /** Whether `peer` has left for good: its instance or group closed, or its thread ended. */
  departure(peer: number): "closed" | "lost" | undefined {
    const state = this.group.peerState(peer);
    if (state === "lost" || state === "closed") return state;
    return Atomics.load(this.own.words, this.control.closed(this.layout, peer)) === 0 ? undefined : "closed";
  }

  /** Whether nobody can be heard any more: this rank has closed its group, and what ranks tell comes through that. */
  isCutOff(): boolean {
    return this.group.openChannel !== undefined && this.group.peerState(this.rank) === "closed";
  }

  /** Fails the instance until its next reset. Only the first failure counts, and is what later errors name as cause. */
  fail(error: MoeA2AError, options: { readonly told: boolean; readonly tellPeers: boolean }): void {
    if (this.failure) {
      this.failure.told ||= options.told;
      return;
    }
    this.failure = { error, told: options.told };
    if (options.tellPeers) {
      for (const peer of this.activeRanks) {
        if (peer === this.rank) continue;
        this.wire.tellFailure(peer, { error, generation: this.generation, completed: this.completed });
      }
    }
    this.giveUpRounds(error);
  }

  /** Ends what is in flight on this rank with `error`. */
  giveUpRounds(error: MoeA2AError): void {
    for (const lane of this.lanes) lane.current?.giveUp(error);
    this.group.ring(this.rank);
  }
}
