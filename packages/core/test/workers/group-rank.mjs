// One rank of a thread group on a worker; does what its parent asks, one command after another.
import { parentPort, workerData } from "node:worker_threads";
import { joinThreadGroup } from "../../dist/index.js";

const group = joinThreadGroup(workerData);
const text = (bytes) => new TextDecoder().decode(bytes);

const commands = {
  async exchange({ key, value, timeoutMs }) {
    return (await group.exchange(key, new TextEncoder().encode(value), { timeoutMs })).map(text);
  },
  async exchangeAndClose({ key, count }) {
    for (let i = 0; i < count; i++) await group.exchange(key, new Uint8Array(1));
    await group.close();
    return count;
  },
  async close() {
    await group.close();
  },
  async leave() {
    setImmediate(() => process.exit(0));
  },
  async crash() {
    setImmediate(() => {
      throw new Error("on purpose");
    });
  },
};

parentPort.on("message", async ({ id, command, ...args }) => {
  try {
    parentPort.postMessage({ id, result: await commands[command](args) });
  } catch (error) {
    parentPort.postMessage({ id, error: { ...error, message: error.message } });
  }
});
parentPort.postMessage({ id: -1, result: "joined" });
