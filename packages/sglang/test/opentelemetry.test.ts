import { context, type Span, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { MoeA2ADispatcher } from "../src/index.js";
import { traceWithOpenTelemetry } from "../src/opentelemetry.js";
import { configOf, createRanks, hiddenSize, makeTokens, randomFrom } from "./world.js";

const exporter = new InMemorySpanExporter();
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });

beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(provider);
});
afterAll(async () => {
  await provider.shutdown();
  context.disable();
  trace.disable();
});
beforeEach(() => exporter.reset());

/** One rank, all alone. */
async function oneRank(): Promise<MoeA2ADispatcher> {
  const [a2a] = await createRanks(configOf({ epSize: 1, timeoutMs: 100 }));
  return new MoeA2ADispatcher({ a2a: a2a!, hiddenSize, dtype: "float32" }) as unknown as MoeA2ADispatcher;
}

it("makes a span of each phase, below the one that is active", async () => {
  const dispatcher = await oneRank();
  const { stop } = traceWithOpenTelemetry();
  const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 3, configOf({ epSize: 1 }));
  const layer = await trace.getTracer("test").startActiveSpan("layer", async (span: Span) => {
    const received = await dispatcher.dispatch(hiddenStates, topkOutput);
    await dispatcher.combine({ format: "flashinfer", hiddenStates: received.hiddenStates });
    span.end();
    return span.spanContext();
  });
  stop();
  const spans = exporter.getFinishedSpans();
  expect(spans.map(({ name }) => name)).toEqual(["moe_a2a.dispatch", "moe_a2a.combine", "layer"]);
  for (const span of spans.slice(0, 2)) expect(span.parentSpanContext?.spanId).toBe(layer.spanId);
  expect(spans[0]!.attributes).toMatchObject({
    "moe_a2a.rank": 0,
    "moe_a2a.ep_size": 1,
    "moe_a2a.round": 0,
    "moe_a2a.tokens": 3,
    "moe_a2a.slots": 8,
    "moe_a2a.wait_ms": [0],
  });
  expect(spans[1]!.attributes).not.toHaveProperty("moe_a2a.wait_ms");
});

it("marks a failed phase, and ends when it is told to", async () => {
  const dispatcher = await oneRank();
  const { stop } = traceWithOpenTelemetry({ tracer: provider.getTracer("own") });
  const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 3, configOf({ epSize: 1 }));
  expect(() => dispatcher.dispatchA(hiddenStates, topkOutput, { dpGlobalNumTokens: [1] })).toThrow();
  const [span] = exporter.getFinishedSpans();
  expect(span?.status).toEqual({ code: SpanStatusCode.ERROR, message: "ERR_MOE_A2A_CAPACITY" });
  expect(span?.attributes["error.type"]).toBe("ERR_MOE_A2A_CAPACITY");
  stop();
  stop();
  exporter.reset();
  await dispatcher.dispatch(hiddenStates, topkOutput);
  expect(exporter.getFinishedSpans()).toEqual([]);
});
