import { checkSignal, type ReadyOptions } from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import type { PhaseWait } from "./phase.js";
import { waitFor } from "./wait.js";

/** Rounds that always find their peers there would keep timers and I/O waiting: a turn is due after so many milliseconds. */
const TURN_MS = 5;
let lastTurn = 0;

/** Lets the event loop take a turn, unless it has had one lately. */
async function breathe(): Promise<void> {
  if (performance.now() - lastTurn < TURN_MS) return;
  await new Promise((resolve) => setImmediate(resolve));
  lastTurn = performance.now();
}

/** Waits for a phase without blocking. @throws (rejects) its error, or the signal's reason */
export async function settle(context: RankContext, phase: PhaseWait, options?: ReadyOptions): Promise<void> {
  const signal = checkSignal(context.rank, options?.signal);
  if (signal?.aborted) throw signal.reason;
  if (phase.poll()) await breathe();
  else await waitFor(phase, context.group.bell, signal);
  throwFailure(context, phase);
}

/** Waits for a phase, blocking the thread. @throws its error; STATE where ranks share the thread */
export function settleSync(context: RankContext, phase: PhaseWait, call: string): void {
  if (!context.group.canBlock) {
    throw context.stateError(
      call,
      context.group.kind,
      context.group.kind === "local"
        ? "the ranks of a local group share one thread, which must not block; await ready()"
        : "ranks in processes hear of one another through the event loop, which must not block; await ready()",
    );
  }
  if (!phase.poll()) context.group.bell.waitSync(() => phase.poll(), phase.deadline);
  while (!phase.poll());
  throwFailure(context, phase);
}

function throwFailure(context: RankContext, phase: PhaseWait): void {
  if (!phase.error) return;
  if (context.failure) context.failure.told = true;
  throw phase.error;
}
