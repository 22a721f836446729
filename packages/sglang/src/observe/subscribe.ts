import { tracingChannel } from "node:diagnostics_channel";
import { COMBINE_CHANNEL, DISPATCH_CHANNEL, type PhaseMessage } from "./channels.js";

/** What a listener does with the phases of this thread. */
export interface PhaseListener {
  /** It begins. */
  started(message: PhaseMessage): void;
  /** It has arrived, or failed (`message.error`). Not called where nobody waits for it to the end. */
  ended(message: PhaseMessage): void;
}

/** Listens to all dispatches and combines of this thread; returns what ends that. */
export function subscribeToPhases({ started, ended }: PhaseListener): () => void {
  const handlers = {
    start: started,
    // Where nothing was sent, nothing will arrive.
    end: (message: PhaseMessage) => {
      if (message.error !== undefined) ended(message);
    },
    asyncStart: () => {},
    asyncEnd: ended,
    error: () => {},
  };
  const channels = [DISPATCH_CHANNEL, COMBINE_CHANNEL].map((name) =>
    tracingChannel<unknown, PhaseMessage>(name),
  );
  for (const channel of channels) channel.subscribe(handlers);
  return () => {
    for (const channel of channels) channel.unsubscribe(handlers);
  };
}

/** Milliseconds since 1970, in fractions, and alike on all threads and processes of a machine. */
export const now = (): number => performance.timeOrigin + performance.now();
