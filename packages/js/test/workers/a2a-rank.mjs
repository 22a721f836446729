// One rank on a worker thread; does what its parent asks, one command after another.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { parentPort, workerData } from "node:worker_threads";
import { joinThreadGroup, tensor } from "@moe-a2a/core";
import { jsBackend } from "../../dist/index.js";

const group = joinThreadGroup(workerData);
let a2a;
let dispatch;
let combine;

/** Row t of rank r in round n holds r * 1000 + n * 10 + t, so that every received row tells where it came from. */
const rows = (rank, round, tokens, hidden) =>
  tensor(
    "float32",
    [tokens, hidden],
    Float32Array.from(
      { length: tokens * hidden },
      (_, i) => rank * 1000 + round * 10 + Math.floor(i / hidden),
    ),
  );

const commands = {
  async create({ config, options }) {
    a2a = await jsBackend.create(config, group, options);
  },
  dispatch({ round = 0, tokens = 1, ids, lane, maxTokens }) {
    const { topK } = a2a.config;
    const tokenSelectedExperts = tensor("int32", [tokens, topK], ids ?? new Array(tokens * topK).fill(0));
    dispatch = a2a.dispatch({
      numLocalTokens: tokens,
      tokenSelectedExperts,
      payloads: [rows(a2a.epRank, round, tokens, 4), tokenSelectedExperts],
      expertIdPayloadIndex: 1,
      runtimeMaxTokensPerRank: maxTokens,
      lane,
    });
  },
  ready: () => dispatch.ready(),
  readySync: () => dispatch.readySync(),
  received: () => ({
    counts: [...dispatch.recvCounts.data],
    rows: [...dispatch.recv[0].data],
    ids: [...dispatch.recv[1].data],
  }),
  combine() {
    const buffer = dispatch.combineBuffer(4, "float32");
    buffer.data.set(dispatch.recv[0].data);
    combine = dispatch.combine(buffer);
  },
  combineReady: async () => {
    await combine.ready();
    return [...combine.output.data];
  },
  combineReadySync: () => {
    combine.readySync();
    return [...combine.output.data];
  },
  reset: (options) => a2a.reset(options),
  abort: ({ reason }) => a2a.abort(reason),
  close: () => a2a.close(),
  closeGroup: () => group.close(),
  /** Blocks the thread, as a rank that hangs would. */
  hang: ({ ms }) => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms),
  heap: () => {
    setFlagsFromString("--expose-gc");
    runInNewContext("gc")();
    return process.memoryUsage();
  },
  /** Many whole rounds in one command, with the blocking calls. */
  rounds({ count, tokens }) {
    for (let round = 0; round < count; round++) {
      commands.dispatch({ round, tokens: tokens[(round + a2a.epRank) % tokens.length] });
      dispatch.readySync();
      commands.combine();
      combine.readySync();
    }
  },
};

parentPort.on("message", async ({ id, command, ...args }) => {
  try {
    parentPort.postMessage({ id, result: await commands[command](args) });
  } catch (error) {
    const { message, cause } = error;
    parentPort.postMessage({
      id,
      error: { ...error, message, cause: cause && { ...cause, message: cause.message } },
    });
  }
});
parentPort.postMessage({ id: -1, result: "joined" });
