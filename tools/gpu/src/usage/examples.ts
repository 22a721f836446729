import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { cudaBackend } from "@moe-a2a/cuda";
import { judge, type Step } from "../step.js";
import { cli } from "./doctor.js";

/** What has to stand in an example's output: without CUDA it ends well, too. */
const SHOWS: Readonly<Record<string, RegExp>> = { "gpu-graph.mjs": /^replayed with /m };

/** Programs of the docs say why CUDA cannot be had, and do nothing else then. */
function says(stdout: string): boolean {
  const status = cudaBackend.status();
  return !status.available && stdout.includes(status.reason);
}

/** The examples, and the programs of the docs that use CUDA, as somebody runs them who has installed the packages. */
export const examples: Step = {
  limit: 90,
  async run(context, limit) {
    const folder = join(context.bundle, "app/examples");
    const names = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith(".mjs")) : [];
    if (names.length === 0) return { status: "skipped", detail: "the bundle holds none" };
    const end = performance.now() + limit * 1000;
    const failures: string[] = [];
    let timeout = false;
    for (const name of names.sort()) {
      // Those of processes need a launcher; the others run by themselves.
      const launcher = name === "process-ranks.mjs" ? [cli(context), "run", "--ranks=3"] : [];
      // One that hangs leaves time for the others.
      const seconds = Math.min(20, (end - performance.now()) / 1000);
      const result = await context.exec.run(process.execPath, [...launcher, join(folder, name)], seconds);
      const { status } = judge(result);
      timeout ||= status === "timeout";
      const shows = SHOWS[name]?.test(result.stdout) ?? !says(result.stdout);
      if (status === "passed" && shows) continue;
      failures.push(`${name}: ${result.tail.trim().split("\n").at(-1)}`);
    }
    const cases = { passed: names.length - failures.length, failed: failures.length, leftOut: 0 };
    if (failures.length === 0) return { status: "passed", cases, figures: { examples: names } };
    return { status: timeout ? "timeout" : "failed", cases, detail: failures.join("\n") };
  },
};
