import { hostname } from "node:os";
import {
  type Backend,
  checkConfig,
  type Group,
  isMoeA2AError,
  MoeA2AError,
  type MoeAllToAll,
  type MoeAllToAllConfig,
} from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { agree, decodeClaims, encodeClaim } from "./agree.js";
import { probeCuda, type UnavailableStatus } from "./cuda.js";
import {
  type BackendPreference,
  type BackendTensor,
  checkPreference,
  publishSelection,
  publishUnavailable,
  type RejectedBackend,
  warnCudaUnusable,
} from "./select-backend.js";

/** What `createMoeAllToAll()` is told beside config and group. */
export interface CreateMoeAllToAllOptions<P extends BackendPreference = BackendPreference> {
  /** Default `auto`: CUDA where every rank can have it, else JS. */
  readonly backend?: P;
}

/**
 * Makes this rank's all-to-all on a backend that all ranks agree on: a collective over the group.
 *
 * @throws (rejects) ERR_MOE_A2A_CONFIG for a value out of range, before anything is exchanged, and where ranks ask for
 * different backends or configs; ERR_MOE_A2A_UNAVAILABLE on every rank where one asked for `cuda` and not all can have
 * it; ERR_MOE_A2A_PEER_TIMEOUT naming the ranks that did not come
 */
export async function createMoeAllToAll<P extends BackendPreference = "auto">(
  config: MoeAllToAllConfig,
  group: Group,
  options?: CreateMoeAllToAllOptions<P>,
): Promise<MoeAllToAll<BackendTensor<P>>>;
export async function createMoeAllToAll(
  config: MoeAllToAllConfig,
  group: Group,
  options?: CreateMoeAllToAllOptions,
): Promise<MoeAllToAll> {
  const { timeoutMs } = checkConfig(config, group?.rank);
  const preference = options?.backend ?? "auto";
  checkPreference("createMoeAllToAll()", preference);
  const backend = await agreeOnBackend(group, preference, timeoutMs);
  return await backend.create(config, group);
}

async function agreeOnBackend(
  group: Group,
  preference: BackendPreference,
  timeoutMs: number,
): Promise<Backend> {
  const cuda = preference === "js" ? undefined : await probeCuda();
  const status = cuda?.status;
  // A rank that lacks what it insists on comes too, so that its peers are told and need not wait for it.
  const claim = encodeClaim({
    preference,
    cudaProblem: status?.available === false ? status.reason : null,
    cudaProcess: cuda?.installed ? `${hostname()} ${process.pid}` : null,
  });
  const claims = decodeClaims(await exchangeClaims(group, claim, timeoutMs));
  const { backend, reason, lacking } = agree(claims);

  if (backend === "cuda") {
    return publishSelection(preference, { backend: cuda!.backend!, reason, rejected: [] }, group.rank)
      .backend;
  }
  const rejected: RejectedBackend[] = [];
  if (lacking.length > 0 && cuda !== undefined) {
    const own: UnavailableStatus = cuda.status.available ? passedOver(reason, lacking) : cuda.status;
    rejected.push({ name: "cuda", status: own });
    if (backend === undefined) throw publishUnavailable(preference, reason, own.hint, rejected, group.rank);
    const { cudaProcess } = claims[group.rank]!;
    const speaker = claims.findIndex((c) => cudaProcess !== null && c.cudaProcess === cudaProcess);
    if (speaker === group.rank) warnCudaUnusable(own);
  }
  return publishSelection(preference, { backend: jsBackend, reason, rejected }, group.rank).backend;
}

/** @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT of phase `create`, as the creation itself would */
async function exchangeClaims(
  group: Group,
  claim: Uint8Array,
  timeoutMs: number,
): Promise<readonly Uint8Array[]> {
  for (;;) {
    try {
      return await group.exchange("moe-a2a:select-backend", claim, { timeoutMs });
    } catch (error) {
      if (!isMoeA2AError(error, "ERR_MOE_A2A_PEER_TIMEOUT")) throw error;
      const { message, missingRanks, kind } = error;
      // The others have given up on an attempt that this rank missed: it meets them at their next one.
      if (missingRanks.includes(group.rank)) continue;
      const details = { phase: "create", round: 0, missingRanks, kind } as const;
      throw new MoeA2AError("ERR_MOE_A2A_PEER_TIMEOUT", `createMoeAllToAll(): ${message}`, details, {
        cause: error,
      });
    }
  }
}

function passedOver(reason: string, lacking: readonly number[]): UnavailableStatus {
  const hint = `make cuda available on rank ${lacking.join(", ")} too, or ask for { backend: "js" }`;
  return { available: false, code: "CUDA_NOT_ON_ALL_RANKS", reason, hint };
}
