// What tracing costs: a round of one rank with one token, the smallest there is, with nobody who listens and with somebody.
import { tracingChannel } from "node:diagnostics_channel";
import { createLocalGroup, tensor } from "../../core/dist/index.js";
import {
  COMBINE_CHANNEL,
  combineBytesPerToken,
  createMoeAllToAll,
  DISPATCH_CHANNEL,
  dispatchBytesPerToken,
  MoeA2ADispatcher,
} from "../dist/index.js";

const ROUNDS = 20_000;
const REPEATS = 7;
const form = { hiddenSize: 16, dtype: "float32" };
const [group] = createLocalGroup(1);
const a2a = await createMoeAllToAll(
  {
    epSize: 1,
    numExperts: 1,
    topK: 1,
    maxTokensPerRank: 1,
    maxDispatchBytesPerToken: dispatchBytesPerToken({ ...form, topK: 1 }),
    maxCombineBytesPerToken: combineBytesPerToken(form),
  },
  group,
  { backend: "js" },
);
const dispatcher = new MoeA2ADispatcher({ a2a, ...form });
const hidden = tensor("float32", [1, 16]);
const topk = { topkIds: tensor("int32", [1, 1]), topkWeights: tensor("float32", [1, 1]) };
const out = tensor("float32", [1, 16]);

/** Microseconds of a round. */
async function measure() {
  const start = performance.now();
  for (let i = 0; i < ROUNDS; i++) {
    const { hiddenStates } = await dispatcher.dispatch(hidden, topk);
    await dispatcher.combine({ format: "flashinfer", hiddenStates }, { out });
  }
  return ((performance.now() - start) * 1000) / ROUNDS;
}

/** Nanoseconds of asking whether somebody listens, as each phase does. */
function measureQuestion() {
  const channel = tracingChannel(DISPATCH_CHANNEL);
  const times = 10_000_000;
  let yes = 0;
  const start = performance.now();
  for (let i = 0; i < times; i++) if (channel.hasSubscribers) yes++;
  return [((performance.now() - start) * 1e6) / times, yes];
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const handlers = { start() {}, end() {}, asyncStart() {}, asyncEnd() {}, error() {} };
const channels = [DISPATCH_CHANNEL, COMBINE_CHANNEL].map((name) => tracingChannel(name));
const [silent, heard] = [[], []];
await measure();
for (let i = 0; i < REPEATS; i++) {
  silent.push(await measure());
  for (const channel of channels) channel.subscribe(handlers);
  heard.push(await measure());
  for (const channel of channels) channel.unsubscribe(handlers);
}
const [question] = measureQuestion();
console.log(`a round, nobody listens   ${median(silent).toFixed(2)} µs`);
console.log(`a round, somebody listens ${median(heard).toFixed(2)} µs`);
console.log(`asking twice              ${((2 * question) / 1000).toFixed(3)} µs`);
await a2a.close();
