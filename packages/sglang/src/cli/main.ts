#!/usr/bin/env node
import { OWN_MANIFEST } from "../own-manifest.js";
import { type Command, UsageError } from "./command.js";
import { doctor } from "./doctor.js";
import { run } from "./run.js";

const COMMANDS: Readonly<Record<string, Command>> = { run, doctor };

const HELP = `Usage: moe-a2a <command> [options]

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(8)}${summary}`)
  .join("\n")}

moe-a2a <command> --help shows the options of a command; moe-a2a --version tells the version.
`;

/** Runs the command that the arguments name; resolves with the exit code. */
async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === "--help" || name === "-h") {
    process.stdout.write(HELP);
    return 0;
  }
  if (name === "--version") {
    process.stdout.write(`${OWN_MANIFEST.version}\n`);
    return 0;
  }
  const command = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  try {
    if (command) return await command.main(args);
    throw new UsageError(name === undefined ? "no command is given" : `there is no command "${name}"`);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const help = command ? `moe-a2a ${name} --help` : "moe-a2a --help";
    process.stderr.write(`moe-a2a: ${error.message}\n${help} shows what can be given.\n`);
    return 2;
  }
}

// Readers may leave early, as `head` does; that must not end this process while it looks after others.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
process.exitCode = await main(process.argv.slice(2));
