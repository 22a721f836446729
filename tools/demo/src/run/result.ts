import { createHash } from "node:crypto";
import type { RankSummary } from "../rank/protocol.js";

/** What a whole run came to. */
export interface RunResult {
  readonly requests: number;
  readonly steps: number;
  /** Pairs of a rank and a step in which the rank took part with zero tokens. */
  readonly zeroTokenRankSteps: number;
  readonly tokens: number;
  readonly compared: number;
  readonly mismatches: number;
  readonly firstMismatch: string | undefined;
  readonly backend: string;
}

/**
 * Adds the ranks' summaries up.
 *
 * @throws where the ranks did not run the same steps, or a request has no answer
 */
export function addUp(
  summaries: readonly RankSummary[],
  answers: ReadonlyMap<number, Int32Array>,
  requests: number,
  backend: string,
): RunResult {
  const steps = summaries[0]!.steps;
  if (summaries.some((summary) => summary.steps !== steps)) {
    throw new Error(`ranks ran different numbers of steps: ${summaries.map((s) => s.steps).join(", ")}`);
  }
  if (answers.size !== requests) throw new Error(`${answers.size} of ${requests} requests were answered`);
  const total = (of: (summary: RankSummary) => number): number =>
    summaries.reduce((sum, s) => sum + of(s), 0);
  return {
    requests,
    steps,
    zeroTokenRankSteps: total((s) => s.zeroTokenSteps),
    tokens: total((s) => s.tokens),
    compared: total((s) => s.compared),
    mismatches: total((s) => s.mismatches),
    firstMismatch: summaries.find((s) => s.firstMismatch !== undefined)?.firstMismatch,
    backend,
  };
}

/** A digest of all answers' tokens, by request. */
export function answersChecksum(answers: ReadonlyMap<number, Int32Array>): string {
  const hash = createHash("sha256");
  for (const [id, tokens] of [...answers].sort(([a], [b]) => a - b))
    hash.update(`${id}:${tokens.join(",")}\n`);
  return hash.digest("hex").slice(0, 16);
}

/** The last line of a run that got to its end. */
export function verdictLine(result: RunResult): string {
  const { requests, steps, zeroTokenRankSteps, mismatches, backend } = result;
  return (
    `${mismatches === 0 ? "OK" : "FAIL"} requests=${requests} steps=${steps} ` +
    `zeroTokenRankSteps=${zeroTokenRankSteps} mismatches=${mismatches} backend=${backend}`
  );
}
