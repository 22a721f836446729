import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { backendNames, type GroupKind, loadBackend } from "../backends.js";
import { Runner } from "../runner.js";
import { SHORT_MS } from "./limits.js";
import { figures, type Played, table } from "./report.js";
import { makeScenario, nameScenario } from "./scenario.js";

const help = `Plays random scenarios: a fault of one rank, what every other rank must be told, and how they go on.

  npm run faults -- [options]

  --backend NAME     ${backendNames.join(" or ")}; default js
  --group KIND       local, threads or processes; default: all that the backend has, in turn
  --scenarios N      per kind of group; default 110
  --seed N           another seed; default 1
  --first N          starts with the scenario of this number; default 0
  --limit MS         time limit where somebody has to run into it; default 700, more where a machine is busy
  --fault TEXT       only faults whose name holds TEXT
  --budget SECONDS   starts no more scenarios after that time
  --json FILE        writes the figures there, too
  --help             this text`;

class UsageError extends Error {}

function integer(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new UsageError(`--${name} is "${text}"`);
  return value;
}

function parse() {
  try {
    return parseArgs({
      options: {
        backend: { type: "string", default: "js" },
        group: { type: "string" },
        scenarios: { type: "string" },
        seed: { type: "string" },
        first: { type: "string" },
        limit: { type: "string" },
        fault: { type: "string", default: "" },
        budget: { type: "string" },
        json: { type: "string" },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function main(): Promise<void> {
  const options = parse();
  if (options.help) {
    console.log(help);
    return;
  }
  const target = await loadBackend(options.backend).catch((error: Error) => {
    throw new UsageError(error.message);
  });
  const status = target.backend.status();
  if (!status.available) throw new UsageError(`${target.name} cannot run here: ${status.hint}`);
  const kinds = target.groups.filter((kind) => options.group === undefined || kind === options.group);
  if (kinds.length === 0) throw new UsageError(`--group is one of ${target.groups.join(", ")}`);
  const count = integer("scenarios", options.scenarios, 110);
  const seed = integer("seed", options.seed, 1);
  const first = integer("first", options.first, 0);
  const shortMs = integer("limit", options.limit, SHORT_MS);
  const budget = options.budget === undefined ? Number.POSITIVE_INFINITY : Number(options.budget) * 1000;

  const played: Played[] = [];
  const playKind = async (kind: GroupKind): Promise<void> => {
    const runner = new Runner({ target, kind, seed });
    for (let n = first; n < first + count && performance.now() < budget; n++) {
      const scenario = makeScenario(seed, n, kind, { maxRanks: target.maxRanks, shortMs });
      if (!scenario.fault.includes(options.fault)) continue;
      const start = performance.now();
      let failure: string | undefined;
      let msToVerdict: number[] = [];
      try {
        const results = await runner.play({ scenario });
        msToVerdict = results.flatMap(({ figures }) => figures?.msToVerdict ?? []);
      } catch (error) {
        failure = (error as Error).message;
        console.log(`FAIL ${kind} scenario ${n}: ${nameScenario(scenario)}\n${failure.replace(/^/gm, "  ")}`);
      }
      const milliseconds = performance.now() - start;
      played.push({ n, kind, scenario, milliseconds, msToVerdict, ...(failure && { failure }) });
    }
    await runner.close();
  };
  for (const kind of kinds) await playKind(kind);
  console.log(`Scenarios, and milliseconds until the other ranks knew: median / most\n`);
  console.log(`${table(played, kinds)}\n`);
  if (options.json) {
    const groups = kinds.map((group) => {
      const mine = played.filter((p) => p.kind === group);
      const milliseconds = mine.reduce((sum, p) => sum + p.milliseconds, 0);
      return { group, seconds: milliseconds / 1000, faults: figures(mine) };
    });
    const all = { tool: "faults", backend: target.name, seed, groups, played };
    writeFileSync(options.json, `${JSON.stringify(all, null, 2)}\n`);
  }
  const failed = played.filter((p) => p.failure).length;
  console.log(`${played.length - failed} passed, ${failed} failed`);
  // A run that played nothing has shown nothing.
  if (failed > 0 || played.length === 0) process.exitCode = 1;
}

main().catch((error: unknown) => {
  console.error(error instanceof UsageError ? `${error.message}\n\n${help}` : error);
  process.exitCode = 2;
});
