import { describe, MoeA2AError } from "@moe-a2a/core";
import type { BackendName, BackendPreference } from "./select-backend.js";

/** What a rank tells the others before a backend is taken. */
export interface Claim {
  readonly preference: BackendPreference;
  /** Why this rank cannot have CUDA; null where it can, or where it did not ask. */
  readonly cudaProblem: string | null;
  /** The process of this rank where CUDA is installed, else null: ranks on threads of one process warn once together. */
  readonly cudaProcess: string | null;
}

/** What follows from all ranks' claims, alike on every rank. */
export interface Agreement {
  /** Undefined where a rank insists on CUDA and another cannot have it. */
  readonly backend: BackendName | undefined;
  readonly reason: string;
  /** Ranks that cannot have CUDA. */
  readonly lacking: readonly number[];
}

/**
 * Settles on one backend for all ranks.
 *
 * @throws ERR_MOE_A2A_CONFIG where one rank insists on CUDA and another on JS
 */
export function agree(claims: readonly Claim[]): Agreement {
  const ranksOf = (holds: (claim: Claim) => boolean): number[] =>
    [...claims.keys()].filter((rank) => holds(claims[rank]!));
  const js = ranksOf(({ preference }) => preference === "js");
  const cuda = ranksOf(({ preference }) => preference === "cuda");
  if (js.length > 0 && cuda.length > 0) {
    const preferences = claims.map(({ preference }) => preference);
    const each = preferences.map((preference, rank) => `rank ${rank} for ${describe(preference)}`).join(", ");
    throw new MoeA2AError(
      "ERR_MOE_A2A_CONFIG",
      `the ranks ask for different backends: ${each}; give createMoeAllToAll() the same options.backend on every rank`,
      { field: "backend", value: preferences },
    );
  }
  if (js.length > 0) return { backend: "js", reason: `js was asked for by ${ranks(js)}`, lacking: [] };
  const lacking = ranksOf(({ cudaProblem }) => cudaProblem !== null);
  if (lacking.length === 0) {
    const asked = cuda.length > 0 ? `cuda was asked for by ${ranks(cuda)} and ` : "cuda ";
    return { backend: "cuda", reason: `${asked}can run on every rank`, lacking };
  }
  const problems = `cuda cannot run on ${listProblems(claims, lacking)}`;
  return cuda.length > 0
    ? { backend: undefined, reason: `${ranks(cuda)} asked for cuda, and ${problems}`, lacking }
    : { backend: "js", reason: `js on every rank, as ${problems}`, lacking };
}

// Ranks mostly share their problem: it is told once, with the ranks that have it.
function listProblems(claims: readonly Claim[], lacking: readonly number[]): string {
  const byProblem = new Map<string, number[]>();
  for (const rank of lacking) {
    const problem = claims[rank]!.cudaProblem!;
    byProblem.set(problem, [...(byProblem.get(problem) ?? []), rank]);
  }
  return [...byProblem].map(([problem, which]) => `${ranks(which)} (${problem})`).join(", ");
}

function ranks(list: readonly number[]): string {
  return `${list.length === 1 ? "rank" : "ranks"} ${list.join(", ")}`;
}

export function encodeClaim(claim: Claim): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(claim));
}

/**
 * The claims of all ranks.
 *
 * @throws ERR_MOE_A2A_MISMATCH where a rank sent something else, as another version of this package might
 */
export function decodeClaims(all: readonly Uint8Array[]): Claim[] {
  const texts = all.map((bytes) => new TextDecoder().decode(bytes));
  return texts.map((text, rank) => {
    const claim = parse(text);
    if (typeof claim?.preference === "string" && claim.cudaProblem !== undefined) return claim as Claim;
    throw new MoeA2AError(
      "ERR_MOE_A2A_MISMATCH",
      `createMoeAllToAll(): rank ${rank} sent ${describe(text)} where its backend was expected; ` +
        "run the same version of @moe-a2a/sglang on every rank",
      { field: "backend", values: texts },
    );
  });
}

function parse(text: string): Partial<Claim> | null | undefined {
  try {
    return JSON.parse(text) as Partial<Claim> | null;
  } catch {
    return undefined;
  }
}
