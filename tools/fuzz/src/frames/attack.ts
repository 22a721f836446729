import { setImmediate as turn } from "node:timers/promises";
import { feed } from "./fake-socket.js";
import { mutate } from "./mutate.js";
import type { Random } from "./random.js";
import { exactRound } from "./rounds.js";
import { Trio, Victim } from "./victim.js";

const SPARED = { activeRanks: [0, 2], timeoutMs: 10_000 };

/** Hands frames over as they are, together, or in pieces; ends with the link. @returns frames that were taken */
function send(socket: Victim["socket"], frames: readonly Buffer[], random: Random): number {
  let sent = 0;
  const way = random.below(8);
  if (way === 0) {
    feed(socket, Buffer.concat(frames));
    return socket.destroyed ? 1 : frames.length;
  }
  for (const frame of frames) {
    if (socket.destroyed) break;
    sent++;
    if (way === 1 && frame.length > 1) {
      const cut = 1 + random.below(frame.length - 1);
      feed(socket, frame.subarray(0, cut));
      if (!socket.destroyed) feed(socket, frame.subarray(cut));
    } else if (frame.length > 0) feed(socket, frame);
  }
  return sent;
}

/**
 * Sends spoiled recordings to a rank that stands alone, until its link has ended or they have.
 *
 * @returns frames that were taken
 */
export async function attackOne(
  random: Random,
  recordings: readonly (readonly Buffer[])[],
  checks: boolean,
): Promise<number> {
  const victim = await Victim.make();
  const inRound = random.below(2) === 0;
  if (inRound) victim.dispatch();
  if (checks) victim.snapshot();
  let sent = 0;
  for (let burst = 0; burst < 40 && !victim.socket.destroyed; burst++) {
    sent += send(victim.socket, mutate(random, recordings), random);
  }
  if (checks) victim.checkWindow();
  await victim.close();
  return sent;
}

/** Sends a spoiled recording to a rank of three, of which the other two go on without the one that sent it. */
export async function attackGroup(
  random: Random,
  recordings: readonly (readonly Buffer[])[],
): Promise<number> {
  const trio = await Trio.make();
  for (let round = random.below(3); round > 0; round--) await exactRound(trio.a2as);
  const sent = send(trio.socket, mutate(random, recordings), random);
  await turn();
  const spared = [trio.a2as[0]!, trio.a2as[2]!];
  await Promise.all(spared.map((a2a) => a2a.reset(SPARED)));
  for (let round = 0; round < 2; round++) await exactRound(spared);
  await trio.close();
  return sent;
}
