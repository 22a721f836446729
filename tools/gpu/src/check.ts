import type { SourceHash } from "./hash.js";
import { allPassed, type Report } from "./report.js";
import { formatReport } from "./summary.js";

export interface Verdict {
  readonly ok: boolean;
  readonly text: string;
}

/**
 * Says what the kept report covered, and whether it speaks of these sources.
 *
 * @param stepNames all steps that there are, to tell those that no run has passed
 */
export function checkReport(
  report: Report | undefined,
  sources: SourceHash,
  stepNames: readonly string[],
): Verdict {
  if (!report) {
    return {
      ok: false,
      text: "There is no GPU report yet. Make one: npm run gpu:bundle, then run.sh on a GPU host.",
    };
  }
  const covered = formatReport(report);
  if (report.sources.hash !== sources.hash) {
    const now = `the sources are ${sources.hash.slice(0, 12)} (${sources.files} files) now`;
    return { ok: false, text: `${covered}\nSTALE: ${now}; the report does not speak of them.` };
  }
  const passed = new Set(
    report.runs.flatMap((run) => run.steps.filter((s) => s.status === "passed").map((s) => s.name)),
  );
  const missing = stepNames.filter((name) => !passed.has(name));
  const rest = missing.length > 0 ? `\nNot covered: ${missing.join(", ")}.` : "";
  if (!allPassed(report)) return { ok: false, text: `${covered}\nFAILED: not every step passed.` };
  return { ok: true, text: `${covered}${rest}\nCURRENT: the sources are those of the report.` };
}
