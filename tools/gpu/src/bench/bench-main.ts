import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { createThreadGroup } from "@moe-a2a/core";
import { cudaBackend } from "@moe-a2a/cuda";
import type { BenchJob, BenchMessage } from "./bench-worker.js";
import type { BenchFigures, BenchRow, HostFigures } from "./figures.js";

const help = `Times dispatch, combine and graph-replayed rounds through the public API, a rank per worker thread, and checks results
before and after.

  node tools/gpu/dist/bench-main.js [options]

  --ranks N        default: the number of GPUs
  --samples N      per figure; default 25
  --rounds N       rounds in one graph; default 20
  --largest N      most tokens per rank; default 8192
  --all            every factor, too: other models, fp8, other routings, fewer SMs, forced forms on the wire
  --store-gbs N    what this machine's stores come to, for the report
  --json FILE      where figures go; default standard output`;

function main(): void {
  const { values } = parseArgs({
    options: {
      ranks: { type: "string" },
      samples: { type: "string", default: "25" },
      rounds: { type: "string", default: "20" },
      largest: { type: "string", default: "8192" },
      all: { type: "boolean", default: false },
      "store-gbs": { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  const status = cudaBackend.status();
  if (!status.available) throw new Error(`there is nothing to time here: ${status.reason}; ${status.hint}`);
  const devices = status.devices.length;
  const ranks = Number(values.ranks ?? devices);
  const [samples, roundsPerGraph, largest] = [values.samples, values.rounds, values.largest].map(Number) as [
    number,
    number,
    number,
  ];
  const rows: BenchRow[] = [];
  const measured: { host?: HostFigures } = {};
  let done = 0;
  for (const ticket of createThreadGroup(ranks)) {
    const job: BenchJob = { ticket, devices, samples, roundsPerGraph, largest, seed: 1, all: values.all };
    const worker = new Worker(new URL("./bench-worker.js", import.meta.url), { workerData: job });
    const fail = (why: string) => {
      console.error(`rank ${ticket.rank}: ${why}`);
      process.exitCode = 1;
    };
    worker.on("message", (message: BenchMessage) => {
      if ("failure" in message) fail(message.failure);
      else if ("done" in message) done++;
      else if ("host" in message) measured.host = message.host;
      else {
        rows.push(message.row);
        console.error(JSON.stringify(message.row));
      }
    });
    worker.on("error", (error) =>
      fail(error instanceof Error ? (error.stack ?? error.message) : String(error)),
    );
  }
  process.on("exit", () => {
    if (done < ranks) process.exitCode = 1;
    const store = values["store-gbs"] === undefined ? {} : { storeGBs: Number(values["store-gbs"]) };
    const figures: BenchFigures = { ranks, samples, roundsPerGraph, ...store, ...measured, rows };
    const text = `${JSON.stringify(figures, null, 2)}\n`;
    if (values.json === undefined) process.stdout.write(text);
    else writeFileSync(values.json, text);
  });
}

try {
  main();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
