import type { Backend, CreateOptions, DType, MoeAllToAll, Tensor } from "@moe-a2a/core";
import type { CudaExtras, CudaTestOptions } from "./backend-cuda.js";

/** Kinds of groups that cases run in. */
export type GroupKind = "local" | "threads" | "processes";

/** Options of `create` that only tests use. */
export interface TestOptions extends CreateOptions, CudaTestOptions {
  /** Number of the first round, to get to a wrap of 32 bits in reasonable time. */
  readonly firstRound?: number;
}

/** Where backends differ, by contract. */
export interface Traits {
  /**
   * Calls see the elements of tensors and what peers have written, so that they throw for bad expert ids and on a rank
   * that was left out. Else the device sees them, and `ready()` tells: of a bad id on every rank.
   */
  readonly callsSeeMemory: boolean;
  /**
   * What a dispatch shows may be read from its `ready()` until the combine is ready. Else at once, in stream order, until
   * the combine is enqueued.
   */
  readonly gatedByReady: boolean;
  /** A tensor's data tell how many elements there are. Else they are an address. */
  readonly tensorsKnowTheirLength: boolean;
  /** `numLocalTokens` may be an int32 `[1]` in the backend's memory. */
  readonly countInMemory: boolean;
  /** Payloads may lie at any address. Else at multiples of their elements. */
  readonly anyAddress: boolean;
}

/** A backend and what the cases need to know about it. */
export interface BackendUnderTest {
  readonly name: string;
  readonly backend: Backend;
  readonly groups: readonly GroupKind[];
  readonly traits: Traits;
  /** Where its tensors live. */
  readonly device: Tensor["device"]["type"];
  /** Cases of more ranks are left out. */
  readonly maxRanks: number;
  /** Rounds that the random worlds play unless `--rounds` says otherwise. */
  readonly worldRounds: Readonly<Record<GroupKind, number>>;
  /** Options that each rank's `create` needs here. */
  placement(rank: number): CreateOptions & { readonly device?: number };
  /** A tensor in memory that is not of `empty()`'s making, `offset` elements past an aligned address. */
  foreign(a2a: MoeAllToAll, dtype: DType, shape: readonly number[], offset: number): Tensor;
  /** Bytes in use that creating and closing instances must not raise. */
  memoryInUse(): Promise<number>;
  /** What only the CUDA backend has. */
  readonly cuda?: CudaExtras;
}

/** Whether ranks of a backend can block while they wait, in a kind of group. */
export function canBlock({ traits }: BackendUnderTest, kind: GroupKind): boolean {
  // In processes, those of the CPU backend hear of one another through the event loop.
  return kind === "threads" || (kind === "processes" && !traits.gatedByReady);
}

/** The backends that can be asked for by name; what one needs is loaded when it is. */
const loaders: Readonly<Record<string, () => Promise<BackendUnderTest>>> = {
  js: async () => (await import("./backend-js.js")).js,
  cuda: async () => (await import("./backend-cuda.js")).loadCuda(),
};

export const backendNames: readonly string[] = Object.keys(loaders);

const loaded = new Map<string, Promise<BackendUnderTest>>();

/** @throws (rejects) where there is no such backend, or it does not load */
export function loadBackend(name: string): Promise<BackendUnderTest> {
  const load = Object.hasOwn(loaders, name) ? loaders[name] : undefined;
  if (!load) throw new Error(`there is no backend "${name}"; one of: ${backendNames.join(", ")}`);
  const found = loaded.get(name) ?? load();
  loaded.set(name, found);
  return found;
}
