// One rank in a process of its own; does what its parent asks, one command after another.
import { readdirSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { joinProcessGroup, tensor } from "@moe-a2a/core";
import { jsBackend } from "../../dist/index.js";

let group;
let a2a;
/** By lane: what was dispatched, and under which round of the test. */
const rounds = [];

/** Bytes that tell whose they are: a row of a token, or a row of results. */
const row = (bytes, ...who) => Buffer.alloc(bytes, `${who.join(" ")};`);
/** A token goes to two ranks, its own and the next, shifted by its number. */
const targets = (rank, token) => [...new Set([0, 1].map((k) => (rank + token + k) % group.size))];
const tokensOf = (tokens, rank) => (Array.isArray(tokens) ? tokens[rank] : tokens);

function differs(actual, expected) {
  return Buffer.compare(Buffer.from(actual.buffer, actual.byteOffset, actual.byteLength), expected) !== 0;
}

/** What is wrong with what a dispatch received. */
function wrongRows({ dispatch, round, tokens, rowBytes }) {
  const wrong = [];
  const [payload, ids] = dispatch.recv;
  const m = payload.shape[1];
  for (let source = 0; source < group.size; source++) {
    let slot = 0;
    const active = a2a.activeRanks.includes(source);
    for (let token = 0; active && token < tokensOf(tokens, source); token++) {
      if (!targets(source, token).includes(group.rank)) continue;
      const at = (source * m + slot) * rowBytes;
      if (differs(payload.data.subarray(at, at + rowBytes), row(rowBytes, source, round, token)))
        wrong.push(`row ${slot} of rank ${source} in round ${round}`);
      if (ids.data[(source * m + slot) * 2] !== targets(source, token)[0])
        wrong.push(`id ${slot} of rank ${source} in round ${round}`);
      slot++;
    }
    if (dispatch.recvCounts.data[source] !== slot) {
      wrong.push(`${dispatch.recvCounts.data[source]} rows of rank ${source} in round ${round}, not ${slot}`);
    }
    for (let pad = slot; pad < m; pad++)
      if (ids.data[(source * m + pad) * 2] !== -1) wrong.push(`padding ${pad} of rank ${source}`);
    const stats = dispatch.expertStats?.data.subarray(source * 3, source * 3 + 3);
    if (stats && stats.join() !== (active ? [source, round, 7].join() : "0,0,0"))
      wrong.push(`statistics ${stats}`);
  }
  return wrong;
}

/** Results tell owner, source and slot, in numbers that add up exactly. */
const result = (owner, source, slot, column) => owner * 4096 + source * 256 + slot + (column % 3);

function wrongSums({ combine, tokens, hidden }) {
  const wrong = [];
  const { activeRanks } = a2a;
  const slots = new Array(group.size).fill(0);
  const { data } = combine.output;
  for (let token = 0; token < tokensOf(tokens, group.rank); token++) {
    const owners = targets(group.rank, token).filter((owner) => activeRanks.includes(owner));
    const mine = owners.map((owner) => [owner, slots[owner]++]);
    for (const column of [0, hidden >> 1, hidden - 1]) {
      const sum = mine.reduce((all, [owner, slot]) => all + result(owner, group.rank, slot, column), 0);
      if (data[token * hidden + column] !== sum)
        wrong.push(`token ${token}, column ${column}: ${data[token * hidden + column]}, not ${sum}`);
    }
  }
  return wrong;
}

const busy = (ms) => {
  const end = performance.now() + ms;
  while (performance.now() < end);
};

const commands = {
  async join({ options }) {
    group = await joinProcessGroup(options);
  },
  async create({ config, options }) {
    a2a = await jsBackend.create(
      { epSize: group.size, numExperts: group.size, topK: 2, ...config },
      group,
      options,
    );
    return a2a.plan.totalBytes;
  },
  dispatch({ round, tokens, rowBytes, maxTokens, lane = 0, stats = false }) {
    const mine = tokensOf(tokens, group.rank);
    const ids = tensor("int32", [mine, 2]);
    const payload = tensor("uint8", [mine, rowBytes]);
    for (let token = 0; token < mine; token++) {
      const [first, second = first] = targets(group.rank, token);
      ids.data.set([first, second], token * 2);
      payload.data.set(row(rowBytes, group.rank, round, token), token * rowBytes);
    }
    const dispatch = a2a.dispatch({
      numLocalTokens: mine,
      tokenSelectedExperts: ids,
      payloads: [payload, ids],
      expertIdPayloadIndex: 1,
      runtimeMaxTokensPerRank: maxTokens,
      lane,
      ...(stats && { expertStats: tensor("int32", [3], [group.rank, round, 7]) }),
    });
    rounds[lane] = { dispatch, round, tokens, rowBytes, payload, ids };
  },
  async ready({ lane = 0, check = true, overwrite = false } = {}) {
    const { dispatch, payload, ids } = rounds[lane];
    await dispatch.ready();
    if (overwrite) for (const { data } of [payload, ids]) data.fill(0x5a);
    return check ? wrongRows(rounds[lane]) : [];
  },
  /** Spoils the inputs of a round that has failed, and gives their memory away. */
  spoil({ lane = 0 } = {}) {
    const { payload } = rounds[lane];
    payload.data.fill(0xee);
    structuredClone(payload.data.buffer, { transfer: [payload.data.buffer] });
  },
  combine({ lane = 0, hidden, inPlace = false }) {
    const current = rounds[lane];
    const { dispatch } = current;
    const m = dispatch.recv[0].shape[1];
    const shape = [group.size, m, hidden];
    const output = inPlace ? dispatch.combineBuffer(hidden, "float32") : tensor("float32", shape);
    for (let source = 0; source < group.size; source++)
      for (let slot = 0; slot < dispatch.recvCounts.data[source]; slot++)
        for (let column = 0; column < hidden; column++)
          output.data[(source * m + slot) * hidden + column] = result(group.rank, source, slot, column);
    Object.assign(current, { hidden, combine: dispatch.combine(output) });
    // What lies outside the combine buffer is the caller's again.
    if (!inPlace) output.data.fill(Number.NaN);
  },
  async combineReady({ lane = 0, exit = false } = {}) {
    await rounds[lane].combine.ready();
    const wrong = wrongSums(rounds[lane]);
    if (exit) process.exit(wrong.length > 0 ? 9 : 0);
    return wrong;
  },
  /** A whole round; says what was wrong and how long it took. */
  async round(args) {
    const start = performance.now();
    commands.dispatch(args);
    const wrong = await commands.ready({ ...args, overwrite: true });
    commands.combine(args);
    wrong.push(...(await commands.combineReady(args)));
    return { wrong, ms: performance.now() - start };
  },
  /** Many rounds, one after another or two at a time. */
  async rounds({ count, lanes = 1, tokens, ...args }) {
    const wrong = [];
    for (let round = 0; round < count; round++) {
      const turn = [...tokens.slice(round % tokens.length), ...tokens.slice(0, round % tokens.length)];
      const each = Array.from({ length: lanes }, (_, lane) => ({
        ...args,
        lane,
        round: round * lanes + lane,
        tokens: turn,
      }));
      for (const one of each) commands.dispatch(one);
      for (const one of each.reverse()) wrong.push(...(await commands.ready(one)));
      for (const one of each) commands.combine(one);
      for (const one of each) wrong.push(...(await commands.combineReady(one)));
    }
    return wrong;
  },
  /** Instances that come, play a round, and go. */
  async cycle({ count, config, ...args }) {
    const wrong = [];
    for (let i = 0; i < count; i++) {
      await commands.create({ config });
      wrong.push(...(await commands.round({ round: i, ...args })).wrong);
      await a2a.close();
    }
    return wrong;
  },
  reset: (options) => a2a.reset(options),
  abort: ({ reason }) => a2a.abort(reason),
  close: () => a2a.close(),
  closeGroup: () => group.close(),
  /** Keeps the event loop busy, and then runs a command in the same turn. */
  busy({ ms, next, args = {} }) {
    busy(ms);
    return next && commands[next](args);
  },
  async held() {
    setFlagsFromString("--expose-gc");
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      runInNewContext("gc")();
    }
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    const kinds = process.getActiveResourcesInfo().filter((kind) => !/TTY|Timeout/.test(kind));
    return {
      heapUsed,
      arrayBuffers,
      kinds: kinds.sort().join(),
      descriptors: readdirSync("/proc/self/fd").length,
    };
  },
  /** Leaves the process with nothing but its group and its instance. */
  async disconnect() {
    setImmediate(() => process.disconnect());
  },
};

process.on("message", async ({ id, command, ...args }) => {
  try {
    process.send({ id, result: await commands[command](args) });
  } catch (error) {
    process.send({ id, error: { ...error, name: error.name, message: error.message } });
  }
});
process.send({ id: -1, result: "started" });
