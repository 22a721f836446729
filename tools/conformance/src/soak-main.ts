import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { createThreadGroup } from "@moe-a2a/core";
import type { SoakJob, SoakMessage } from "./soak-worker.js";

const help = `Plays random rounds for a long time, a rank per worker thread, and compares one in 61 byte for byte with the oracle.
On CUDA it then replays a captured round, its count changing in device memory, and compares one replay in 37.

  node tools/conformance/dist/soak-main.js [options]

  --backend NAME    default cuda
  --ranks N         default 4
  --rounds N        default 200000
  --replays N       default 20000; CUDA only
  --seconds N       stops the rounds after that time, too; default 600
  --seed N          default 1

The last line of its output is JSON.`;

function main(): void {
  const { values } = parseArgs({
    options: {
      backend: { type: "string", default: "cuda" },
      ranks: { type: "string", default: "4" },
      rounds: { type: "string", default: "200000" },
      replays: { type: "string", default: "20000" },
      seconds: { type: "string", default: "600" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  const number = (name: "ranks" | "rounds" | "replays" | "seconds" | "seed", low: number): number => {
    const value = Number(values[name]);
    if (Number.isSafeInteger(value) && value >= low) return value;
    throw new Error(`--${name} is "${values[name]}"; it must be an integer from ${low} on`);
  };
  const options = {
    backend: values.backend,
    rounds: number("rounds", 1),
    replays: number("replays", 0),
    seconds: number("seconds", 1),
    seed: number("seed", 0),
  };
  const messages: SoakMessage[] = [];
  const tickets = createThreadGroup(number("ranks", 1));
  for (const ticket of tickets) {
    const job: SoakJob = { ticket, ...options };
    const worker = new Worker(new URL("./soak-worker.js", import.meta.url), { workerData: job });
    worker.on("message", (message: SoakMessage) => {
      messages.push(message);
      if ("failure" in message) {
        console.error(`rank ${message.rank}: ${message.failure}`);
        process.exitCode = 1;
      }
    });
    worker.on("error", (error) => {
      console.error(
        `rank ${ticket.rank}: ${error instanceof Error ? (error.stack ?? error.message) : error}`,
      );
      process.exitCode = 1;
    });
  }
  process.on("beforeExit", () => {
    if (messages.length < tickets.length) process.exitCode = 1;
    const ranks = messages.sort((a, b) => a.rank - b.rank);
    console.log(JSON.stringify({ backend: options.backend, seed: options.seed, ranks }));
    process.exit();
  });
}

try {
  main();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
