import { isMoeA2AError } from "@moe-a2a/core";
import { context, type Span, SpanStatusCode, type Tracer, trace } from "@opentelemetry/api";
import type { PhaseMessage } from "./observe/channels.js";
import { subscribeToPhases } from "./observe/subscribe.js";
import { OWN_MANIFEST } from "./own-manifest.js";

/** What `traceWithOpenTelemetry()` is told. */
export interface OpenTelemetryOptions {
  /** Default: that of the global provider. */
  readonly tracer?: Tracer;
}

/** What ends the spans of this thread. */
export interface OpenTelemetryHandle {
  /** Makes no more spans. Idempotent. */
  stop(): void;
}

/**
 * Makes a span of every dispatch and combine of this thread, `moe_a2a.dispatch` and `moe_a2a.combine`, below the span that is
 * active where the call is made. It needs `@opentelemetry/api`, which is yours to install.
 */
export function traceWithOpenTelemetry(options: OpenTelemetryOptions = {}): OpenTelemetryHandle {
  const tracer = options.tracer ?? trace.getTracer("@moe-a2a/sglang", OWN_MANIFEST.version);
  const spans = new WeakMap<PhaseMessage, Span>();
  const stop = subscribeToPhases({
    started: (message) => {
      const { phase, rank, epSize } = message;
      const attributes = { "moe_a2a.rank": rank, "moe_a2a.ep_size": epSize };
      spans.set(message, tracer.startSpan(`moe_a2a.${phase}`, { attributes }, context.active()));
    },
    ended: (message) => {
      const span = spans.get(message);
      if (span === undefined) return;
      span.setAttributes(attributesOf(message));
      const { error } = message;
      if (error !== undefined) {
        const code = isMoeA2AError(error) ? error.code : String(error);
        span.setAttribute("error.type", code);
        span.setStatus({ code: SpanStatusCode.ERROR, message: code });
        if (error instanceof Error) span.recordException(error);
      }
      span.end();
    },
  });
  return { stop };
}

function attributesOf({ phase, round, lane, tokens, slots, bytes, report }: PhaseMessage) {
  const dispatched = phase === "dispatch" ? report : undefined;
  const attributes = {
    "moe_a2a.round": round,
    "moe_a2a.lane": lane,
    "moe_a2a.tokens": tokens,
    "moe_a2a.slots": slots,
    "moe_a2a.bytes": bytes,
    "moe_a2a.tokens_sent": dispatched?.tokensSent,
    "moe_a2a.tokens_received": dispatched?.tokensReceived,
    "moe_a2a.wait_ms": dispatched && [...dispatched.waitMs],
  };
  const known = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known);
}
