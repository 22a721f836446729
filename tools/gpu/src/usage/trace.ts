import { existsSync, readFileSync, rmSync } from "node:fs";
import type { Step } from "../step.js";
import { demoOutcome, demoProgram } from "./demo.js";
import { lookAtTrace } from "./trace-file.js";

/** The demo with a trace: every phase has the GPU's own time, and those of a row follow one another. */
export const trace: Step = {
  limit: 60,
  async run(context, limit) {
    const file = context.scratch("trace.json");
    // A trace is added to what is there.
    rmSync(file, { force: true });
    const variables = { MOE_A2A_TRACE: file };
    const result = await context.exec.run(process.execPath, [demoProgram(context)], limit, variables);
    const outcome = demoOutcome(result);
    if (outcome.status !== "passed") return outcome;
    if (!existsSync(file)) return { status: "failed", detail: "the demo wrote no trace" };
    const { wrong, figures } = lookAtTrace(readFileSync(file, "utf8"));
    return wrong.length === 0
      ? { status: "passed", figures }
      : { status: "failed", detail: wrong.join("\n"), figures };
  },
};
