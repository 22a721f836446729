import { performance } from "node:perf_hooks";
import { checkSignal, type ReadyOptions } from "@moe-a2a/core";
import type { PhaseWait } from "./phase.js";
import { waitFor } from "./wait.js";

/** Rounds that always find their peers there would keep timers and I/O waiting: a turn is due after so many milliseconds. */
const TURN_MS = 5;
let lastTurn = 0;

/** Lets the event loop take a turn. */
async function breathe(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  lastTurn = performance.now();
}

/**
 * Waits for a phase without blocking.
 *
 * @returns undefined where there is nothing to wait for: most rounds of idle ranks are over by then, and every promise costs
 * @throws (rejects) the signal's reason
 */
export function settle(phase: PhaseWait, options: ReadyOptions | undefined): Promise<void> | undefined {
  const signal = options === undefined ? undefined : checkSignal(phase.context.rank, options.signal);
  if (signal?.aborted) throw signal.reason;
  const isFirst = phase.outcome === "pending";
  if (!phase.poll()) return waitFor(phase, phase.context.group.bell, signal);
  // Where each round asks once, when it began is near enough: to read the clock again would take longer than all else here.
  const now = isFirst ? phase.startedAt : performance.now();
  return now !== undefined && now - lastTurn >= TURN_MS ? breathe() : undefined;
}

/** Waits for a phase, blocking the thread. @throws its error; STATE where ranks share the thread */
export function settleSync(phase: PhaseWait, call: string): void {
  const { context } = phase;
  if (!context.group.canBlock) {
    throw context.stateError(
      call,
      context.group.kind,
      context.group.kind === "local"
        ? "the ranks of a local group share one thread, which must not block; await ready()"
        : "ranks in processes hear of one another through the event loop, which must not block; await ready()",
    );
  }
  if (!phase.poll()) context.group.bell.waitSync(phase);
  while (!phase.poll());
  throwFailure(phase);
}

/** @throws the error of a phase that has failed */
export function throwFailure(phase: PhaseWait): void {
  if (!phase.error) return;
  const { context } = phase;
  if (context.failure) context.failure.told = true;
  throw phase.error;
}
