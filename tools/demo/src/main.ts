import { HELP, type Options, readArgs } from "./args.js";
import { runJob } from "./run/job.js";
import { verdictLine } from "./run/result.js";

async function main(options: Options): Promise<void> {
  try {
    const result = await runJob(options, process.stdout);
    if (result.firstMismatch !== undefined) console.log(`first mismatch: ${result.firstMismatch}`);
    console.log(verdictLine(result));
    if (result.mismatches > 0) process.exitCode = 1;
  } catch (error) {
    const { message } = error instanceof Error ? error : { message: String(error) };
    console.error(message);
    console.log(`FAIL ${message.split("\n", 1)[0]}`);
    process.exitCode = 1;
  }
}

const parsed = readArgs(process.argv.slice(2));
if (parsed.kind === "run") void main(parsed.options);
else if (parsed.kind === "help") process.stdout.write(HELP);
else {
  console.error(`${parsed.message}\nRun with --help to see the options.`);
  process.exitCode = 2;
}
