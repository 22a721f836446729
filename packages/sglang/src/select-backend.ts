import { channel } from "node:diagnostics_channel";
import {
  type Backend,
  type CpuTensor,
  type CudaTensor,
  describe,
  MoeA2AError,
  type Tensor,
} from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { argumentError } from "./check.js";
import { probeCuda, type UnavailableStatus } from "./cuda.js";

/** The backends that there are. */
export type BackendName = Backend["name"];

/** `auto`: CUDA where it can run, else JS. The others: that one or none. */
export type BackendPreference = "auto" | BackendName;

/** The tensors of the backend that a preference leads to. */
export type BackendTensor<P extends BackendPreference> = P extends "js"
  ? CpuTensor
  : P extends "cuda"
    ? CudaTensor
    : Tensor;

/** A backend that was not taken, and why. */
export interface RejectedBackend {
  name: BackendName;
  status: UnavailableStatus;
}

/** A backend, and what spoke for it. */
export interface BackendSelection<T extends Tensor = Tensor> {
  backend: Backend<T>;
  /** Why this one, in words. */
  reason: string;
  rejected: RejectedBackend[];
}

/** `node:diagnostics_channel` channel of every selection; messages are {@link BackendSelectionMessage}s. */
export const SELECT_BACKEND_CHANNEL = "moe-a2a:select-backend";

/** What a message on {@link SELECT_BACKEND_CHANNEL} says. */
export interface BackendSelectionMessage {
  readonly preference: BackendPreference;
  /** Undefined where the backend asked for cannot run. */
  readonly backend: BackendName | undefined;
  readonly reason: string;
  readonly rejected: readonly RejectedBackend[];
  /** This rank, where the ranks of a group agreed on the backend; undefined for `selectBackend()`. */
  readonly rank: number | undefined;
}

/** Code of the one process warning about a CUDA backend that is installed but was passed over. */
export const CUDA_UNUSABLE_WARNING = "MOE_A2A_CUDA_UNUSABLE";

const PREFERENCES: readonly BackendPreference[] = ["auto", "cuda", "js"];

/**
 * Picks a backend for this process, and tells which and why: in the result, on the diagnostics channel, and once by a
 * process warning where CUDA is installed but cannot be used.
 *
 * @throws (rejects) ERR_MOE_A2A_UNAVAILABLE where `cuda` was asked for and cannot run; ERR_MOE_A2A_ARGUMENT for another
 * preference
 */
export async function selectBackend<P extends BackendPreference = "auto">(
  preference?: P,
): Promise<BackendSelection<BackendTensor<P>>>;
export async function selectBackend(preference: BackendPreference = "auto"): Promise<BackendSelection> {
  checkPreference("selectBackend()", preference);
  if (preference === "js") {
    return publishSelection(preference, { backend: jsBackend, reason: "js was asked for", rejected: [] });
  }
  const cuda = await probeCuda();
  if (cuda.backend !== undefined) {
    const reason = preference === "cuda" ? "cuda was asked for and can run" : "cuda can run here";
    return publishSelection(preference, { backend: cuda.backend, reason, rejected: [] });
  }
  const { status } = cuda;
  const rejected: RejectedBackend[] = [{ name: "cuda", status }];
  if (preference === "cuda") throw publishUnavailable(preference, status.reason, status.hint, rejected);
  if (cuda.installed) warnCudaUnusable(status);
  return publishSelection(preference, {
    backend: jsBackend,
    reason: `js, as cuda cannot run here: ${status.reason}`,
    rejected,
  });
}

/** @throws ERR_MOE_A2A_ARGUMENT */
export function checkPreference(where: string, preference: BackendPreference): void {
  if (PREFERENCES.includes(preference)) return;
  throw argumentError(
    "backend",
    `${where}: the backend is ${describe(preference)}; it must be one of ${PREFERENCES.map(describe).join(", ")}`,
  );
}

const selections = channel(SELECT_BACKEND_CHANNEL);

/** Tells the channel's subscribers. */
export function publishSelection(
  preference: BackendPreference,
  selection: BackendSelection,
  rank?: number,
): BackendSelection {
  const { backend, reason, rejected } = selection;
  publish({ preference, backend: backend.name, reason, rejected, rank });
  return selection;
}

/** Tells the channel's subscribers that there is no backend, and makes the error that says so. */
export function publishUnavailable(
  preference: BackendPreference,
  reason: string,
  hint: string,
  rejected: readonly RejectedBackend[],
  rank?: number,
): MoeA2AError<"ERR_MOE_A2A_UNAVAILABLE"> {
  publish({ preference, backend: undefined, reason, rejected, rank });
  return new MoeA2AError(
    "ERR_MOE_A2A_UNAVAILABLE",
    `the cuda backend was asked for and cannot run: ${reason}; ${hint}`,
    { reason, hint },
  );
}

function publish(message: BackendSelectionMessage): void {
  selections.publish(message);
}

// On the global object, as several copies of this package may be loaded.
const warned = Symbol.for("moe-a2a.cudaUnusableWarned");

/** Warns, the first time in this process, that an installed CUDA backend is passed over. */
export function warnCudaUnusable({ reason, hint }: UnavailableStatus): void {
  const globals = globalThis as { [warned]?: boolean };
  if (globals[warned]) return;
  globals[warned] = true;
  process.emitWarning(`moe-a2a runs on the CPU: ${reason}; ${hint}`, {
    type: "MoeA2AWarning",
    code: CUDA_UNUSABLE_WARNING,
  });
}
