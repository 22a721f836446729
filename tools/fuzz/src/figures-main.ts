import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { collect, type Figures } from "./figures/collect.js";
import { withTables } from "./figures/tables.js";

const root = new URL("../../../", import.meta.url);
const kept = fileURLToPath(new URL("docs/figures/robustness.json", root));
const page = fileURLToPath(new URL("docs/faults.md", root));

/** Takes what tools have written with --json into the figures that are kept, and the tables of the docs with them. */
function main(): void {
  const { values, positionals } = parseArgs({
    options: { commit: { type: "string" } },
    allowPositionals: true,
  });
  let figures: Figures = existsSync(kept) ? JSON.parse(readFileSync(kept, "utf8")) : {};
  if (positionals.length > 0) {
    const head = () =>
      execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).trim();
    const commit = values.commit ?? head();
    for (const file of positionals)
      figures = collect(figures, JSON.parse(readFileSync(file, "utf8")), commit);
    figures = { ...figures, node: process.version, cpus: availableParallelism() };
    mkdirSync(dirname(kept), { recursive: true });
    writeFileSync(kept, `${JSON.stringify(figures, null, 2)}\n`);
  }
  writeFileSync(page, withTables(readFileSync(page, "utf8"), figures));
  console.log(`figures: ${positionals.length} runs taken in; docs/faults.md has the tables`);
}

main();
