import { parentPort, workerData } from "node:worker_threads";
import { joinThreadGroup } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { inputOf } from "./world.js";

// A rank that dispatches and is then torn down.
const a2a = await jsBackend.create(workerData.config, joinThreadGroup(workerData.ticket));
a2a.dispatch(inputOf(1));
parentPort!.postMessage("dispatched");
setInterval(() => {}, 1_000);
