import { parentPort, workerData } from "node:worker_threads";
import { Random } from "../frames/random.js";
import { prepareValues, Thrown } from "../surface/values.js";
import { Caller, loadAddon } from "./calls.js";

// A thread that calls the addon until it is torn down, in the middle of whatever it is at.
process.on("uncaughtException", (error) => {
  if (!(error instanceof Thrown)) throw error;
});
await prepareValues();
const caller = new Caller(loadAddon()!, new Random(workerData as number));
// Ranks of its own, some of them busy, that have to be let go of.
for (;;) {
  for (let call = 0; call < 50; call++) caller.call(() => {});
  parentPort?.postMessage("called");
  await new Promise((resolve) => setImmediate(resolve));
}
