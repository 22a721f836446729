// One rank with an instance of its own on a worker thread; does what its parent asks.
import { parentPort, workerData } from "node:worker_threads";
import { joinThreadGroup } from "@moe-a2a/core";
import { createStream, cudaBackend } from "../../dist/index.js";

const { ticket, config } = workerData;
const group = joinThreadGroup(ticket);
const a2a = await cudaBackend.create(config, group);

/** Sends one token to the first expert of rank 0. */
async function dispatch() {
  const ids = a2a.empty("int32", [1, 1]);
  const rows = a2a.empty("float32", [1, 4]);
  await a2a.write(ids, Int32Array.of(0));
  await a2a.write(rows, new Float32Array(4).fill(a2a.epRank));
  return a2a.dispatch({ numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [rows] });
}

const commands = {
  dispatch,
  async round() {
    const round = await dispatch();
    await round.combine(round.recv[0]).ready();
  },
  /** More replays than are enqueued at once, on a stream of its own. */
  async replays() {
    const ids = a2a.empty("int32", [0, 1]);
    const rows = a2a.empty("float32", [0, 4]);
    const graph = await a2a.capture(() => {
      const round = a2a.dispatch({ numLocalTokens: 0, tokenSelectedExperts: ids, payloads: [rows] });
      round.combine(round.recv[0]);
    });
    graph.replay(2_000_000_000, { stream: createStream(a2a.device).handle });
  },
  exit: () => process.exit(0),
  async close() {
    await a2a.close();
    await group.close();
    parentPort.close();
  },
};

parentPort.on("message", async (command) => {
  await commands[command]();
  parentPort.postMessage(command);
});
parentPort.postMessage("created");
