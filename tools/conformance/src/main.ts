import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { backendNames, type GroupKind, loadBackend } from "./backends.js";
import type { Case } from "./case.js";
import { cases } from "./cases/index.js";
import { applies, fits, type Outcome, Runner } from "./runner.js";

const help = `Runs the semantic cases against a backend, each compared byte for byte with the oracle.

  npm run conformance -- --backend js [options]

  --backend NAME    ${backendNames.join(" or ")}
  --group KIND      local (all ranks on one thread), threads (a worker thread per rank) or processes; default: all
                    that the backend has
  --filter TEXT     only cases whose name holds TEXT; may come more than once
  --list            lists the cases and runs none
  --seed N          another seed for inputs and random worlds; default 1
  --rounds N        rounds that each property plays at least
  --deadline MS     for a case that has no deadline of its own; default 60000
  --jitter MS       each rank waits up to MS before each step: finds cases that hope for an order of ranks
  --budget SECONDS  starts no more cases after that time
  --json FILE       writes the outcomes there, too
  --help            this text`;

class UsageError extends Error {}

function integer(name: string, text: string | undefined, low: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < low) {
    throw new UsageError(`--${name} is "${text}"; it must be an integer from ${low} on`);
  }
  return value;
}

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        backend: { type: "string", default: "js" },
        group: { type: "string" },
        filter: { type: "string", multiple: true, default: [""] },
        list: { type: "boolean", default: false },
        seed: { type: "string" },
        rounds: { type: "string" },
        deadline: { type: "string" },
        jitter: { type: "string" },
        budget: { type: "string" },
        json: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function report({ backend, group, name, milliseconds, failure, note }: Outcome): void {
  const where = `${backend}/${group}`.padEnd(10);
  console.log(
    `${failure === undefined ? "ok  " : "FAIL"} ${where} ${name}${note ? ` (${note})` : ""} ${Math.round(milliseconds)} ms`,
  );
  if (failure !== undefined) console.log(failure.replace(/^/gm, "       "));
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
  const kinds = target.groups.filter((kind) => options.group === undefined || kind === options.group);
  if (kinds.length === 0) {
    throw new UsageError(
      `--group is "${options.group}"; ${target.name} runs in: ${target.groups.join(", ")}`,
    );
  }
  const seed = integer("seed", options.seed, 0) ?? 1;
  const rounds = integer("rounds", options.rounds, 1);
  const deadlineMs = integer("deadline", options.deadline, 1);
  const jitterMs = integer("jitter", options.jitter, 0);
  const budget = integer("budget", options.budget, 1) ?? Number.POSITIVE_INFINITY;
  const wanted = (kind: GroupKind): Case[] =>
    cases.filter((c) => options.filter.some((text) => c.name.includes(text)) && applies(c, target, kind));
  const status = target.backend.status();
  if (options.list) {
    for (const kind of kinds) for (const c of wanted(kind)) console.log(`${target.name}/${kind} ${c.name}`);
    return;
  }
  if (!status.available)
    throw new UsageError(`${target.name} cannot run here: ${status.reason}; ${status.hint}`);

  const outcomes: Outcome[] = [];
  const leftOut: string[] = [];
  const write = () => {
    if (options.json === undefined) return;
    writeFileSync(options.json, `${JSON.stringify({ seed, outcomes, leftOut }, null, 2)}\n`);
  };
  for (const kind of kinds) {
    const runner = new Runner({ target, kind, seed, rounds, deadlineMs, jitterMs });
    for (const c of wanted(kind)) {
      const late = performance.now() > budget * 1000;
      if (late || !fits(c, target)) {
        leftOut.push(
          `${late ? "no time" : `more than ${target.maxRanks} ranks`}: ${target.name}/${kind} ${c.name}`,
        );
        continue;
      }
      const outcome = await runner.run(c);
      report(outcome);
      outcomes.push(outcome);
    }
    await runner.close();
    write();
  }
  for (const name of leftOut) console.log(`left out, ${name}`);
  const failed = outcomes.filter((o) => o.failure !== undefined).length;
  console.log(`${outcomes.length - failed} passed, ${failed} failed`);
  // A run that ran nothing has shown nothing.
  if (failed > 0 || outcomes.length === 0) process.exitCode = 1;
}

main().catch((error: unknown) => {
  console.error(error instanceof UsageError ? `${error.message}\n\n${help}` : error);
  process.exitCode = 2;
});
