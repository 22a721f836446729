// Loads the built package in a worker, says what it finds, and ends or waits for its end.
import { parentPort, workerData } from "node:worker_threads";
import { cudaBackend } from "../../dist/index.js";

parentPort.postMessage(cudaBackend.status());
if (workerData.waits) parentPort.on("message", () => {});
