import { join } from "node:path";
import type { ExecResult } from "../exec.js";
import { app, judge, type Outcome, type Step, type StepContext } from "../step.js";

export const demoProgram = (context: StepContext): string => join(app(context, "demo"), "main.js");

/** What a run of the demo came to. */
export function demoOutcome(result: ExecResult): Outcome {
  const last = result.stdout.trim().split("\n").at(-1) ?? "";
  const good = /^OK .* zeroTokenRankSteps=[1-9]\d* mismatches=0 backend=cuda$/.test(last);
  const outcome = judge(result);
  if (outcome.status === "passed" && !good) return { status: "failed", detail: last };
  return { ...outcome, figures: { last } };
}

export function demo(...args: readonly string[]): Step {
  return {
    limit: 60,
    async run(context, limit) {
      return demoOutcome(await context.exec.run(process.execPath, [demoProgram(context), ...args], limit));
    },
  };
}
