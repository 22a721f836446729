import { mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeFigures } from "./figures/write.js";
import { Random } from "./frames/random.js";
import { record } from "./frames/record.js";
import { flood } from "./strangers/flood.js";
import { joinAmongStrangers } from "./strangers/joins.js";
import { isChild, reportAlive, runChild, supervise } from "./supervise.js";

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      joins: { type: "string", default: "200" },
      floods: { type: "string", default: "5" },
      connections: { type: "string", default: "1000" },
      seed: { type: "string", default: "1" },
      json: { type: "string" },
      last: { type: "string" },
    },
  });
  const seed = Number(values.seed);
  const last = values.last ? openSync(values.last, "w") : undefined;
  const begin = (what: string): void => {
    if (last !== undefined) writeSync(last, `strangers --seed ${seed}: ${what}\n`.padEnd(80), 0);
    reportAlive();
  };
  const problems: unknown[] = [];
  process.on("unhandledRejection", (error) => problems.push(error));
  process.on("uncaughtException", (error) => problems.push(error));
  const start = performance.now();
  const recorded = (await record()).map(({ bytes }) => bytes);
  const random = new Random(seed);
  const folder = mkdtempSync(join(tmpdir(), "moe-a2a-fuzz-"));
  let [atJoins, atFloods, rounds] = [0, 0, 0];
  try {
    for (let n = 0; n < Number(values.joins); n++) {
      begin(`join ${n}`);
      atJoins += await joinAmongStrangers(folder, random, recorded);
      if (problems.length > 0) throw problems[0];
    }
    for (let n = 0; n < Number(values.floods); n++) {
      begin(`flood ${n}`);
      const flooded = await flood(folder, Number(values.connections), random, recorded);
      atFloods += flooded.strangers;
      rounds += flooded.rounds;
      if (problems.length > 0) throw problems[0];
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const [joins, floods] = [Number(values.joins), Number(values.floods)];
  const seconds = (performance.now() - start) / 1000;
  console.log(
    `strangers: ${joins} groups made among ${atJoins} strangers; ${rounds} exact rounds of three processes in ${floods} ` +
      `floods of ${values.connections}; none was told more than a greeting, seed ${seed}, ${seconds.toFixed(1)} s`,
  );
  writeFigures(values.json, {
    tool: "strangers",
    ...{ joins, atJoins, floods, connections: Number(values.connections), atFloods, rounds },
    ...{ seed, seconds, failed: 0 },
  });
  return true;
}

if (isChild()) await runChild(main);
else process.exitCode = await supervise(new URL(import.meta.url), process.argv.slice(2));
