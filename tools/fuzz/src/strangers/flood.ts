import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../frames/random.js";
import { reportAlive } from "../supervise.js";
import { intrude } from "./intruders.js";
import { RankProcess } from "./processes.js";
import type { Stranger } from "./secret.js";

const SIZE = 3;
const NAME = "flooded";

/**
 * Floods the doors of ranks in processes: one half of the strangers comes before the last rank does, the other while the
 * ranks play rounds.
 *
 * @returns what came of it
 */
export async function flood(
  folder: string,
  connections: number,
  random: Random,
  recorded: readonly Buffer[],
): Promise<{ rounds: number; strangers: number }> {
  const path = join(folder, NAME);
  const doors = (): string[] => readdirSync(folder).filter((name) => name.startsWith(NAME));
  const ranks = [0, 1].map((rank) => new RankProcess(rank, SIZE, path));
  const ended = Promise.all(ranks.map((rank) => rank.rounds));
  while (doors().length < 2) await Promise.race([sleep(5), ended]);
  const strangers: Stranger[] = [];
  const knock = (at: readonly string[]): void => {
    strangers.push(intrude({ path: join(folder, random.pick(at)) }, random, random.pick(recorded)));
    reportAlive();
  };
  const both = doors();
  while (strangers.length < connections / 2) {
    knock(both);
    if (strangers.length % 50 === 0) await sleep(1);
  }
  ranks.push(new RankProcess(2, SIZE, path));
  const all = Promise.all(ranks.map((rank) => rank.rounds));
  await Promise.race([all, Promise.all(ranks.map((rank) => rank.joined))]);
  // Rank 0 goes on listening, for ranks that come late; the others need nobody any more.
  const open = doors();
  if (open.join() !== NAME) throw new Error(`a group that is complete listens at ${open}`);
  while (strangers.length < connections) {
    knock(open);
    if (strangers.length % 10 === 0) await Promise.race([sleep(5), all]);
  }
  ranks[0]!.stop();
  const rounds = await all;
  for (const stranger of strangers) stranger.leave();
  if (Math.min(...rounds) < 1 || new Set(rounds).size !== 1) throw new Error(`rounds played: ${rounds}`);
  return { rounds: rounds[0]!, strangers: strangers.length };
}
