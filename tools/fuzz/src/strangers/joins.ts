import { existsSync } from "node:fs";
import { type AddressInfo, createServer, type NetConnectOpts } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { joinProcessGroup } from "@moe-a2a/core";
import type { Random } from "../frames/random.js";
import { intrude } from "./intruders.js";
import { SECRET } from "./secret.js";

const SIZE = 3;

/** Where rank 0 listens, for ranks and for everybody else. */
interface Address {
  readonly address: string;
  readonly door: NetConnectOpts;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function newAddress(folder: string, random: Random): Promise<Address> {
  if (random.below(2) === 0) {
    const path = join(folder, "group");
    return { address: `unix:${path}`, door: { path } };
  }
  const port = await freePort();
  return { address: `127.0.0.1:${port}`, door: { host: "127.0.0.1", port } };
}

/**
 * Ranks that join while strangers are at rank 0's door.
 *
 * @param recorded what ranks have sent in another joining
 * @returns how many strangers came
 */
export async function joinAmongStrangers(
  folder: string,
  random: Random,
  recorded: readonly Buffer[],
): Promise<number> {
  const { address, door } = await newAddress(folder, random);
  const options = { size: SIZE, address, secret: SECRET, timeoutMs: 60_000 };
  const zero = joinProcessGroup({ ...options, rank: 0 });
  if ("path" in door) while (!existsSync(door.path)) await sleep(5);
  else await sleep(5);
  const knock = (count: number) =>
    Array.from({ length: count }, () => intrude(door, random, random.pick(recorded)));
  const strangers = knock(5 + random.below(20));
  if (random.below(2) === 0) await sleep(random.below(10));
  const others = [1, 2].map((rank) => joinProcessGroup({ ...options, rank }));
  strangers.push(...knock(random.below(20)));
  const groups = await Promise.all([zero, ...others]);
  // Rank 0 still answers, for ranks that come late.
  strangers.push(...knock(random.below(5)));
  const values = await Promise.all(groups.map((group) => group.exchange("k", Uint8Array.of(group.rank))));
  if (values.flat().join() !== "0,1,2,0,1,2,0,1,2") throw new Error(`the group exchanged ${values.flat()}`);
  await Promise.all(groups.map((group) => group.close()));
  for (const stranger of strangers) stranger.leave();
  return strangers.length;
}
