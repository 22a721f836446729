import { closeSync, openSync, writeSync } from "node:fs";
import { inspect, parseArgs } from "node:util";
import fc from "fast-check";
import { writeFigures } from "./figures/write.js";
import { isChild, reportAlive, runChild, supervise } from "./supervise.js";
import { cases } from "./surface/case.js";
import { Player } from "./surface/play.js";
import { prepareValues } from "./surface/values.js";

/** Calls of the public surface with hostile arguments, in a process that may crash or hang. */
async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      cases: { type: "string", default: "50000" },
      seed: { type: "string", default: "1" },
      path: { type: "string" },
      json: { type: "string" },
      last: { type: "string" },
    },
  });
  const numRuns = Number(values.cases);
  const seed = Number(values.seed);
  await prepareValues();
  const player = new Player();
  const last = values.last ? openSync(values.last, "w") : undefined;
  const start = performance.now();
  let played = 0;
  const property = fc.asyncProperty(cases, async (given) => {
    if (last !== undefined) {
      // What crashes or hangs is read from here.
      const text = JSON.stringify({ apis: given.steps.map((step) => player.nameOf(step)), ...given });
      writeSync(last, `${text.padEnd(4096)}\n`, 0);
    }
    reportAlive();
    played++;
    await player.play(given);
  });
  const result = await fc.check(property, {
    numRuns,
    seed,
    ...(values.path !== undefined && { path: values.path }),
  });
  await player.close();
  if (last !== undefined) closeSync(last);
  for (const [api, counts] of [...player.counts].sort(([a], [b]) => a.localeCompare(b))) {
    const total = [...counts.values()].reduce((sum, n) => sum + n, 0);
    const each = [...counts].map(([outcome, n]) => `${outcome} ${n}`).join(", ");
    console.log(`${api.padEnd(44)} ${String(total).padStart(7)}: ${each}`);
  }
  const seconds = (performance.now() - start) / 1000;
  const calls = [...player.counts.values()].flatMap((c) => [...c.values()]).reduce((sum, n) => sum + n, 0);
  console.log(
    `surface: ${played} cases, ${calls} calls, ${player.rounds} exact rounds between them, seed ${seed}, ` +
      `${seconds.toFixed(1)} s`,
  );
  const outcomes: Record<string, number> = {};
  for (const counts of player.counts.values()) {
    for (const [outcome, n] of counts) outcomes[outcome] = (outcomes[outcome] ?? 0) + n;
  }
  const failed = result.failed ? 1 : 0;
  writeFigures(values.json, {
    tool: "surface",
    ...{ cases: played, calls, rounds: player.rounds, functions: player.counts.size },
    ...{ seed, seconds, failed, outcomes },
  });
  if (result.failed) {
    console.log(
      `FAILED after ${result.numShrinks} shrinks: --seed ${seed} --path ${result.counterexamplePath}`,
    );
    const [shrunk] = result.counterexample ?? [];
    console.log(shrunk?.steps.map((step) => player.nameOf(step)));
    console.log(inspect(shrunk, { depth: 10 }));
    console.log(result.errorInstance);
  }
  return !result.failed;
}

if (isChild()) await runChild(main);
else process.exitCode = await supervise(new URL(import.meta.url), process.argv.slice(2));
