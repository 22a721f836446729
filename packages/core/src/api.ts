import type { MoeAllToAllConfig } from "./config.js";
import type { DType, TensorData } from "./dtype.js";
import type { Group } from "./group/group.js";
import type { Tensor } from "./tensor.js";
import type { WorkspacePlan } from "./workspace.js";

/** What `AbortSignal` looks like, without asking for the DOM's or Node's types. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** How to wait for a phase. */
export interface ReadyOptions {
  /** Abandons this wait with `signal.reason`; the round goes on. */
  readonly signal?: AbortSignalLike;
}

/** Whether a backend can run here, and why not. */
export type BackendStatus =
  | { readonly available: true; readonly devices: readonly BackendDevice[] }
  | { readonly available: false; readonly code: string; readonly reason: string; readonly hint: string };

/** What a backend runs on: the CPU, or a GPU by its number. */
export interface BackendDevice {
  readonly type: "cpu" | "cuda";
  readonly id: number;
  readonly name: string;
}

/** Options of `create` that a backend may take; they may differ between ranks and never change results. */
export interface CreateOptions {
  /** Fills the padding rows of received payloads with 0xFF bytes, to make readers of padding show. Default false. */
  readonly fillPadding?: boolean;
}

/** A way to carry rounds out, as `jsBackend` and `cudaBackend` are; all keep the same contract. */
export interface Backend<T extends Tensor = Tensor> {
  readonly name: "js" | "cuda";
  status(): BackendStatus;
  /**
   * Makes this rank's instance: a collective over the group. Instances of one group pair by order of creation.
   *
   * @throws (rejects) ERR_MOE_A2A_CONFIG for a value out of range, found before anything is allocated, or where ranks
   * were given different configs; ERR_MOE_A2A_PEER_TIMEOUT naming the ranks that did not come;
   * ERR_MOE_A2A_UNAVAILABLE where the backend cannot run
   */
  create(config: MoeAllToAllConfig, group: Group, options?: CreateOptions): Promise<MoeAllToAll<T>>;
}

/** One rank's end of the all-to-all. */
export interface MoeAllToAll<T extends Tensor = Tensor> extends AsyncDisposable {
  readonly config: MoeAllToAllConfig;
  readonly epRank: number;
  readonly plan: WorkspacePlan;
  /** The ranks that take part, ascending; changed only by `reset()`. */
  readonly activeRanks: readonly number[];
  /** A new tensor in the memory that this backend moves fastest. Its contents are zeros on the CPU, unspecified on a GPU. */
  empty<D extends DType>(dtype: D, shape: readonly number[]): T;
  /** Copies `data` into `t`. */
  write(t: T, data: TensorData): Promise<void>;
  /** Copies `t` to the host. */
  read(t: T): Promise<TensorData>;
  /**
   * Starts a round: sends each token once to every rank that owns one of its experts. Never waits for a peer.
   *
   * @throws ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_CAPACITY, ERR_MOE_A2A_EXPERT_ID: nothing was sent, call again;
   * ERR_MOE_A2A_STATE without a free lane, after `close()` and on a failed instance
   */
  dispatch(input: DispatchInput<T>): Dispatch<T>;
  /**
   * Starts anew after a failure, or changes the membership: a collective among the ranks that it names (default: the
   * active ones). Gives up the rounds that are in flight.
   */
  reset(options?: { readonly activeRanks?: readonly number[]; readonly timeoutMs?: number }): Promise<void>;
  /** Fails the round in flight, or the next one, on all ranks. */
  abort(reason?: unknown): void;
  /** Leaves for good. Idempotent, never waits for a peer. */
  close(): Promise<void>;
}

/** What a rank brings to a round. It stays unchanged until `ready()`, on a GPU until the stream has passed the dispatch. */
export interface DispatchInput<T extends Tensor = Tensor> {
  /** 0…`runtimeMaxTokensPerRank`; on CUDA also a device int32 `[1]`. */
  readonly numLocalTokens: number | T;
  /** int32 `[numLocalTokens, topK]`; -1 is padding. */
  readonly tokenSelectedExperts: T;
  /** 1…8 tensors `[numLocalTokens, n]`; rows travel verbatim. */
  readonly payloads: readonly T[];
  /** This round's slots per sender, equal on all ranks. Default `maxTokensPerRank`. */
  readonly runtimeMaxTokensPerRank?: number;
  /** The payload (int32) whose padding slots are filled with `invalidTokenExpertId` at the receiver. */
  readonly expertIdPayloadIndex?: number;
  /** Default -1. */
  readonly invalidTokenExpertId?: number;
  /** int32 `[n]`, gathered to all ranks. */
  readonly expertStats?: T;
  /** Default: in turn. */
  readonly lane?: 0 | 1;
  /** CUDA only; default the instance's own. */
  readonly stream?: bigint;
}

/** A round after its dispatch. On the CPU, what it shows may be read once `ready()` has succeeded. */
export interface Dispatch<T extends Tensor = Tensor> {
  /** `[epSize, runtimeMaxTokensPerRank, n]` per payload, views of the window; slot `[s, j]` is the j-th token from rank s. */
  readonly recv: readonly T[];
  /** int32 `[epSize]`: rows received from each rank. */
  readonly recvCounts: T;
  /** int32 `[epSize, n]`, where `expertStats` was given. */
  readonly expertStats?: T;
  /** `[epSize, runtimeMaxTokensPerRank, hiddenSize]` in the window: expert output written here is not copied again. */
  combineBuffer(hiddenSize: number, dtype: DType): T;
  /** Waits until every active rank has arrived. May be called again. */
  ready(options?: ReadyOptions): Promise<DispatchReport>;
  /** As `ready()`, blocking the thread. ERR_MOE_A2A_STATE on a local group, whose peers share the thread. */
  readySync(): DispatchReport;
  /**
   * Offers the results `expertOutput[epSize, runtimeMaxTokensPerRank, H]` and starts summing this rank's own. Once only.
   */
  combine(expertOutput: T, options?: { readonly out?: T; readonly stream?: bigint }): Combine<T>;
}

/** A round after its combine: this rank's tokens with the results of their experts summed. */
export interface Combine<T extends Tensor = Tensor> {
  /** `[numLocalTokens, H]`; without `out`, memory of the plan, good until the lane's next combine. */
  readonly output: T;
  ready(options?: ReadyOptions): Promise<void>;
  readySync(): void;
}

/** What one dispatch did on this rank. */
export interface DispatchReport {
  readonly round: number;
  readonly lane: 0 | 1;
  /** Rows sent, summed over the ranks they went to (this one included). */
  readonly tokensSent: number;
  /** Rows received, summed over the ranks they came from (this one included). */
  readonly tokensReceived: number;
  /** Entries of `tokenSelectedExperts` that went nowhere, by reason. */
  readonly droppedEntries: {
    /** The id was -1. */
    readonly padding: number;
    /** The id was no expert's, and the config says to drop such entries. */
    readonly invalidExpert: number;
    /** The expert's rank is not active. */
    readonly inactiveRank: number;
  };
  /** Milliseconds that this rank waited for each rank, by rank; 0 for those that were there before it. */
  readonly waitMs: readonly number[];
}
