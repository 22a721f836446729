import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { backends, type GroupKind } from "./backends.js";
import type { Case } from "./case.js";
import { cases } from "./cases/index.js";
import { applies, type Outcome, Runner } from "./runner.js";

const help = `Runs the semantic cases against a backend, each compared byte for byte with the oracle.

  npm run conformance -- --backend js [options]

  --backend NAME    ${Object.keys(backends).join(" or ")}
  --group KIND      local (all ranks on one thread) or threads (a worker thread per rank); default: all that it has
  --filter TEXT     only cases whose name holds TEXT
  --list            lists the cases and runs none
  --seed N          another seed for inputs and random worlds; default 1
  --rounds N        rounds that each property plays at least
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
        filter: { type: "string", default: "" },
        list: { type: "boolean", default: false },
        seed: { type: "string" },
        rounds: { type: "string" },
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
  const target = backends[options.backend];
  if (!target) {
    throw new UsageError(
      `there is no backend "${options.backend}"; one of: ${Object.keys(backends).join(", ")}`,
    );
  }
  const kinds = target.groups.filter((kind) => options.group === undefined || kind === options.group);
  if (kinds.length === 0) {
    throw new UsageError(
      `--group is "${options.group}"; ${target.name} runs in: ${target.groups.join(", ")}`,
    );
  }
  const seed = integer("seed", options.seed, 0) ?? 1;
  const rounds = integer("rounds", options.rounds, 1);
  const chosen = (kind: GroupKind): Case[] =>
    cases.filter((c) => c.name.includes(options.filter) && applies(c, target, kind));
  if (options.list) {
    for (const kind of kinds) for (const c of chosen(kind)) console.log(`${target.name}/${kind} ${c.name}`);
    return;
  }
  const status = target.backend.status();
  if (!status.available)
    throw new UsageError(`${target.name} cannot run here: ${status.reason}; ${status.hint}`);

  const outcomes: Outcome[] = [];
  for (const kind of kinds) {
    const runner = new Runner({ target, kind, seed, rounds });
    for (const c of chosen(kind)) {
      const outcome = await runner.run(c);
      report(outcome);
      outcomes.push(outcome);
    }
    await runner.close();
  }
  if (options.json !== undefined)
    writeFileSync(options.json, `${JSON.stringify({ seed, outcomes }, null, 2)}\n`);
  const failed = outcomes.filter((o) => o.failure !== undefined).length;
  console.log(`${outcomes.length - failed} passed, ${failed} failed`);
  // A run that ran nothing has shown nothing.
  if (failed > 0 || outcomes.length === 0) process.exitCode = 1;
}

main().catch((error: unknown) => {
  console.error(error instanceof UsageError ? `${error.message}\n\n${help}` : error);
  process.exitCode = 2;
});
