import type { Group } from "@moe-a2a/core";
import { Scheduler } from "../scheduler.js";
import type { Request } from "../text/requests.js";
import type { Model } from "./model.js";
import { Sequence } from "./sequence.js";

/** What the loop tells as it goes. */
export interface ServeListener {
  /** A step ran. */
  step(step: number, tokensByRank: readonly number[]): void;
  /** A request has its answer. */
  answer(request: Request, tokens: Int32Array): void;
}

/** What one rank did in a run. */
export interface Served {
  readonly steps: number;
  /** Steps that this rank took part in with no token of its own. */
  readonly zeroTokenSteps: number;
  readonly tokens: number;
}

/**
 * Serves this rank's requests until no rank has any left. Steps are collective: a rank that has run dry takes part with
 * zero tokens.
 */
export async function serve(
  group: Group,
  model: Model,
  layers: number,
  requests: readonly Request[],
  budget: number,
  listener: ServeListener,
): Promise<Served> {
  const scheduler = new Scheduler(requests, budget);
  const sequences = new Map<number, Sequence>();
  let steps = 0;
  let zeroTokenSteps = 0;
  let tokensRun = 0;
  for (let clock = 0; ; clock++) {
    const idle = scheduler.idle;
    const segments = scheduler.next(clock);
    const tokens = segments.reduce((sum, { count }) => sum + count, 0);
    const peers = await shareStep(group, tokens, idle);
    if (peers.every((peer) => peer.idle)) return { steps, zeroTokenSteps, tokens: tokensRun };
    const tokensByRank = peers.map((peer) => peer.tokens);
    // Nobody has anything to run until a request arrives: time passes, but no step runs.
    if (tokensByRank.every((n) => n === 0)) continue;

    const pieces = segments.map(({ job, start, count, samples }) => {
      const sequence = sequences.get(job.id) ?? new Sequence(job, layers, model.mixer);
      sequences.set(job.id, sequence);
      return { sequence, start, count, samples };
    });
    await model.step(steps, pieces, tokensByRank);
    listener.step(steps, tokensByRank);
    steps++;
    tokensRun += tokens;
    if (tokens === 0) zeroTokenSteps++;
    for (const { sequence } of pieces) {
      if (!sequence.answer) continue;
      listener.answer(sequence.request, sequence.answer);
      sequences.delete(sequence.request.id);
    }
  }
}

/** Tells all ranks this rank's tokens and whether it has nothing left to run, and learns theirs. */
async function shareStep(
  group: Group,
  tokens: number,
  idle: boolean,
): Promise<{ readonly tokens: number; readonly idle: boolean }[]> {
  const message = new Uint8Array(8);
  const view = new DataView(message.buffer);
  view.setUint32(0, tokens, true);
  view.setUint32(4, Number(idle), true);
  const messages = await group.exchange("demo.step", message);
  return messages.map((bytes) => {
    const peer = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return { tokens: peer.getUint32(0, true), idle: peer.getUint32(4, true) === 1 };
  });
}
