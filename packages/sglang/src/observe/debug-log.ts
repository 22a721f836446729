import { debuglog } from "node:util";
import { isMoeA2AError } from "@moe-a2a/core";
import type { PhaseMessage } from "./channels.js";
import { now, subscribeToPhases } from "./subscribe.js";

const log = debuglog("moe-a2a");
let logging = false;

/** Writes a line for each phase to standard error where `NODE_DEBUG` asks for `moe-a2a`. */
export function logWhereAsked(): void {
  if (logging || !log.enabled) return;
  logging = true;
  const starts = new WeakMap<PhaseMessage, number>();
  subscribeToPhases({
    started: (message) => starts.set(message, now()),
    ended: (message) => log("%s", describePhase(message, now() - (starts.get(message) ?? Number.NaN))),
  });
}

/** A phase in one line. */
export function describePhase(message: PhaseMessage, ms: number): string {
  const { phase, rank, round, lane, tokens, slots, bytes, report, error } = message;
  const facts = [`rank ${rank} ${phase}`];
  if (round !== undefined) facts[0] += ` ${round} on lane ${lane}`;
  if (tokens !== undefined) facts.push(`${tokens} tokens in ${slots} slots`);
  if (bytes !== undefined) facts.push(`${bytes} bytes`);
  if (phase === "dispatch" && report) {
    facts.push(`${report.tokensSent} rows sent, ${report.tokensReceived} received`);
    const waited = Math.max(...report.waitMs);
    if (waited > 0) facts.push(`waited ${waited.toFixed(2)} ms for rank ${report.waitMs.indexOf(waited)}`);
  }
  facts.push(`${ms.toFixed(2)} ms`);
  if (error !== undefined) facts.push(`failed: ${isMoeA2AError(error) ? error.code : String(error)}`);
  return facts.join(", ");
}
