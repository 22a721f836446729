// Model checks the round protocol: every configuration has to be proved, and every mutant has to be caught.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { configurations } from "./configurations.mjs";
import { macroOf, mutants } from "./mutants.mjs";
import { each } from "./pool.mjs";
import { configurationLine, headings, mutantLine } from "./report.mjs";
import { missingPrograms, trail, verify } from "./verify.mjs";

const usage = `npm run model -- [options]
  --filter <text>  only configurations and mutants whose name contains it
  --all            also the worlds that take longest; a filter finds them, too
  --trail          print what led to the violation, also to that of each mutant
  --jobs <n>       searches at a time, default 2
  --help`;

/** Searches at once; more would want more memory than small machines have. */
const JOBS = "2";

async function main() {
  const { values } = parseArgs({
    options: {
      filter: { type: "string", default: "" },
      all: { type: "boolean", default: false },
      trail: { type: "boolean", default: false },
      jobs: { type: "string", default: JOBS },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const missing = await missingPrograms();
  if (missing.length > 0) {
    console.error(
      `The model needs Spin and a C compiler; not found: ${missing.join(", ")}. ` +
        "On Debian or Ubuntu: sudo apt-get install spin gcc libc6-dev. Elsewhere: https://spinroot.com",
    );
    return 1;
  }
  const chosen = ({ name }) => name.includes(values.filter);
  const takesLong = ({ long = false }) => long && !values.all && !values.filter;
  const worlds = configurations.filter((world) => chosen(world) && !takesLong(world));
  const wrong = mutants.filter(chosen);
  if (worlds.length + wrong.length === 0) {
    console.error(`no configuration and no mutant has "${values.filter}" in its name`);
    return 1;
  }
  const jobs = Math.max(1, Number.parseInt(values.jobs, 10) || 1);
  const directory = await mkdtemp(join(tmpdir(), "moe-a2a-model-"));
  const started = performance.now();
  const failed = [];
  try {
    if (worlds.length > 0) console.log(headings.configurations);
    await each(worlds, jobs, async ({ name, set, large = false }) => {
      const at = join(directory, name);
      const found = await verify(at, set, { optimize: large });
      console.log(configurationLine(name, found));
      if (found.result === "proved") return;
      failed.push(name);
      if (found.result === "violated" && values.trail) console.log(await trail(at, set));
    });

    if (wrong.length > 0) console.log(`\n${headings.mutants}`);
    await each(wrong, jobs, async (mutant) => {
      for (const world of mutant.worlds) {
        const { set } = configurations.find(({ name }) => name === world);
        const parameters = { ...set, [macroOf(mutant)]: true };
        const at = join(directory, `${mutant.name}-${world}`);
        const found = await verify(at, parameters, { optimize: false });
        if (found.result === "proved") continue;
        console.log(mutantLine(mutant, world, found));
        if (found.result !== "violated") failed.push(mutant.name);
        else if (values.trail) console.log(await trail(at, parameters));
        return;
      }
      console.log(mutantLine(mutant));
      failed.push(mutant.name);
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const counts = `${worlds.length} configurations, ${wrong.length} mutants, ${seconds} s`;
  console.log(failed.length === 0 ? `\nOK ${counts}` : `\nFAILED ${failed.join(", ")} (${counts})`);
  return failed.length === 0 ? 0 : 1;
}

process.exitCode = await main();
