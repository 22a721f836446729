import type { MoeAllToAllConfig } from "./config.js";
import { bytesPerElement, type CombineDType, type TypedArrayOf } from "./dtype.js";
import { MoeA2AError } from "./errors.js";
import { fromFloat32, toFloat32 } from "./float16.js";
import { expertOwner } from "./placement.js";
import { type CpuTensor, tensor } from "./tensor.js";

// The semantics of a round, for all ranks at once and as plainly as they can be written. Tests hold every backend
// against this file; no backend may use it. Quotations are from `docs/semantics.md`.

/** What one rank brings to a round. */
export interface OracleInput {
  /** int32 `[L, topK]`. */
  readonly tokenSelectedExperts: CpuTensor;
  /** `[L, n]` each. */
  readonly payloads: readonly CpuTensor[];
  readonly expertIdPayloadIndex?: number | undefined;
  readonly invalidTokenExpertId?: number | undefined;
  /** int32 `[n]`. */
  readonly expertStats?: CpuTensor | undefined;
}

/** A round before its dispatch. */
export interface OracleRound {
  readonly config: MoeAllToAllConfig;
  /** Default: all ranks. */
  readonly activeRanks?: readonly number[] | undefined;
  /** Default: `maxTokensPerRank`. */
  readonly runtimeMaxTokensPerRank?: number | undefined;
  /** By rank; undefined for ranks that are not active. */
  readonly inputs: readonly (OracleInput | undefined)[];
}

/** One of the ranks that a token goes to. */
export interface OracleRoute {
  /** The first of the token's entries that this rank owns. */
  readonly k: number;
  readonly rank: number;
  /** The token is slot `[s, slot]` there, s being its own rank. */
  readonly slot: number;
}

/** What a round's dispatch means for one rank. */
export interface OracleDispatch {
  /** int32 `[R]`. Slots `[s, j]` with j >= recvCounts[s] are padding. */
  readonly recvCounts: CpuTensor<"int32">;
  /** `[R, m, n]` per payload. Zeros in padding slots, where the contents are unspecified but for the named id payload. */
  readonly recv: readonly CpuTensor[];
  /** int32 `[R, n]`, where the rank brought statistics. */
  readonly expertStats: CpuTensor<"int32"> | undefined;
  /** Per token, ascending in k. */
  readonly routing: readonly (readonly OracleRoute[])[];
  readonly tokensSent: number;
  readonly tokensReceived: number;
  readonly droppedEntries: {
    readonly padding: number;
    readonly invalidExpert: number;
    readonly inactiveRank: number;
  };
}

/** The rank that an entry goes to, or why it goes nowhere. */
function targetOf(
  { config, active }: { config: MoeAllToAllConfig; active: ReadonlySet<number> },
  id: number,
): number | "padding" | "invalidExpert" | "inactiveRank" {
  // "`-1` is padding: that entry is dropped."
  if (id === -1) return "padding";
  // "Any other id outside [0, E) is an error, or is dropped and counted when the config says invalidExpert: 'drop'."
  if (id < 0 || id >= config.numExperts) return "invalidExpert";
  const owner = expertOwner(config, id);
  // "Entries routed to [an absent rank] are dropped and counted".
  return active.has(owner) ? owner : "inactiveRank";
}

/** Where each token of one rank goes, and what was dropped on the way. */
function route(
  world: { config: MoeAllToAllConfig; active: ReadonlySet<number> },
  rank: number,
  ids: CpuTensor,
): Pick<OracleDispatch, "routing" | "tokensSent" | "droppedEntries"> {
  const { topK, invalidExpert } = world.config;
  const droppedEntries = { padding: 0, invalidExpert: 0, inactiveRank: 0 };
  const earlier = new Map<number, number>();
  const routing: OracleRoute[][] = [];
  for (let token = 0; token < ids.shape[0]!; token++) {
    const routes: OracleRoute[] = [];
    for (let k = 0; k < topK; k++) {
      const id = Number(ids.data[token * topK + k]);
      const target = targetOf(world, id);
      if (target === "invalidExpert" && invalidExpert !== "drop") {
        throw new MoeA2AError(
          "ERR_MOE_A2A_EXPERT_ID",
          `rank ${rank}: token ${token}, entry ${k} is expert ${id}, of ${world.config.numExperts}`,
          { rank, token, k, id },
        );
      }
      if (typeof target === "string") droppedEntries[target]++;
      // "A token goes once to each distinct target rank, however many of its K experts live there."
      else if (!routes.some((r) => r.rank === target)) {
        // "Its slot is the number of earlier local tokens with the same target: slots are in token order, always".
        const slot = earlier.get(target) ?? 0;
        earlier.set(target, slot + 1);
        routes.push({ k, rank: target, slot });
      }
    }
    routing.push(routes);
  }
  return { routing, tokensSent: routing.reduce((sum, routes) => sum + routes.length, 0), droppedEntries };
}

/** The bytes of row `row` of a tensor whose last dimension is `n`. */
function rowBytes(t: CpuTensor, row: number): Uint8Array {
  const bytes = t.shape.at(-1)! * bytesPerElement(t.dtype);
  return new Uint8Array(t.data.buffer, t.data.byteOffset + row * bytes, bytes);
}

/**
 * What a dispatch by all active ranks brings to each of them.
 *
 * @returns by rank; undefined for ranks that are not active
 * @throws ERR_MOE_A2A_EXPERT_ID for an id that is no expert's, unless the config says to drop such entries;
 * ERR_MOE_A2A_CAPACITY for more tokens than slots
 */
export function oracleDispatch(round: OracleRound): (OracleDispatch | undefined)[] {
  const { config, inputs } = round;
  const ranks = Array.from({ length: config.epSize }, (_, r) => r);
  const active = new Set(round.activeRanks ?? ranks);
  const m = round.runtimeMaxTokensPerRank ?? config.maxTokensPerRank;

  const sent = ranks.map((r) => {
    if (!active.has(r)) return undefined;
    const tokens = inputs[r]!.tokenSelectedExperts.shape[0]!;
    if (tokens > m) {
      throw new MoeA2AError("ERR_MOE_A2A_CAPACITY", `rank ${r}: ${tokens} tokens, ${m} slots`, {
        value: tokens,
        limit: m,
      });
    }
    return route({ config, active }, r, inputs[r]!.tokenSelectedExperts);
  });

  return ranks.map((d) => {
    const own = sent[d];
    if (!own) return undefined;
    const input = inputs[d]!;
    // "its rows in `recvCounts` and `expertStats` are 0", for an absent rank: tensor() starts from zeros.
    const recvCounts = tensor("int32", [config.epSize]);
    const recv = input.payloads.map((p) => tensor(p.dtype, [config.epSize, m, p.shape[1]!]));
    const n = input.expertStats?.shape[0];
    const expertStats = n === undefined ? undefined : tensor("int32", [config.epSize, n]);

    // "when the caller names the expert-id payload, its padding slots hold `invalidTokenExpertId` (default -1)"
    if (input.expertIdPayloadIndex !== undefined) {
      const idPayload = recv[input.expertIdPayloadIndex]! as CpuTensor<"int32">;
      idPayload.data.fill(input.invalidTokenExpertId ?? -1);
    }

    for (const s of active) {
      sent[s]!.routing.forEach((routes, token) => {
        const here = routes.find((r) => r.rank === d);
        if (!here) return;
        // "Afterwards rank d knows recvCounts[s] for every s."
        recvCounts.data[s]! += 1;
        // "All payloads of a token […] travel verbatim."
        recv.forEach((to, p) => {
          rowBytes(to, s * m + here.slot).set(rowBytes(inputs[s]!.payloads[p]!, token));
        });
      });
      // "An optional int32 vector per rank is gathered to all ranks in the same exchange ([R, n])."
      if (expertStats) rowBytes(expertStats, s).set(rowBytes(inputs[s]!.expertStats!, 0));
    }
    const tokensReceived = recvCounts.data.reduce((sum, count) => sum + count, 0);
    return { recvCounts, recv, expertStats, ...own, tokensReceived };
  });
}

/** A row of expert output. "inputs widen exactly, subnormals too" */
function resultRow(t: CpuTensor, row: number): Float32Array {
  const hidden = t.shape.at(-1)!;
  const data = t.data as TypedArrayOf<CombineDType>;
  return toFloat32(t.dtype as CombineDType, data.subarray(row * hidden, (row + 1) * hidden));
}

/** A round's combine: what `oracleDispatch` returned, and each rank's results. */
export interface OracleCombine {
  readonly dispatched: readonly (OracleDispatch | undefined)[];
  /** `[R, m, H]` by rank, of one dtype; undefined for ranks that are not active. */
  readonly expertOutputs: readonly (CpuTensor | undefined)[];
  /** By rank; default: the dtype of the expert outputs. */
  readonly outDtypes?: readonly (CombineDType | undefined)[] | undefined;
}

/**
 * What the combine returns to each rank: `[L, H]`.
 *
 * @returns by rank; undefined for ranks that are not active
 */
export function oracleCombine({
  dispatched,
  expertOutputs,
  outDtypes,
}: OracleCombine): (CpuTensor | undefined)[] {
  return dispatched.map((own, r) => {
    if (!own) return undefined;
    const [, m, hidden] = expertOutputs[r]!.shape as readonly [number, number, number];
    // "computes in float32, starting from +0": a Float32Array starts so, and tokens that went nowhere stay so.
    const sums = new Float32Array(own.routing.length * hidden);
    own.routing.forEach((routes, token) => {
      // "adding in ascending k over the entries that stand first for their rank, the sum of the owners' results"
      for (const { rank, slot } of routes) {
        const result = resultRow(expertOutputs[rank]!, r * m + slot);
        for (let h = 0; h < hidden; h++) {
          const at = token * hidden + h;
          sums[at] = Math.fround(sums[at]! + result[h]!);
        }
      }
    });
    // "it rounds once, to nearest even, to the output dtype (`out`'s, else the input's)"
    const dtype = outDtypes?.[r] ?? (expertOutputs[r]!.dtype as CombineDType);
    return tensor(dtype, [own.routing.length, hidden], fromFloat32(dtype, sums));
  });
}
