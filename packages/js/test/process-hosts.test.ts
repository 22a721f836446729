import { execFileSync } from "node:child_process";
import { afterAll, expect, it } from "vitest";
import { all, cleanUpProcesses, freeAddress, joinAll, type ProcessRank, roundsOf } from "./process-rank.js";

/** Names and addresses of hosts that are none: network namespaces, joined by a cable of their own. */
const hosts = [0, 1].map((i) => ({
  name: `moe-a2a-${process.pid}-${i}`,
  cable: `moe${i}`,
  address: `10.77.0.${i + 1}`,
}));
const ip = (...args: string[]): void => void execFileSync("ip", args, { stdio: "ignore" });

function makeHosts(): boolean {
  try {
    for (const { name } of hosts) ip("netns", "add", name);
    const [a, b] = hosts as [(typeof hosts)[0], (typeof hosts)[0]];
    ip("link", "add", a.cable, "netns", a.name, "type", "veth", "peer", "name", b.cable, "netns", b.name);
    for (const { name, cable, address } of hosts) {
      ip("-n", name, "address", "add", `${address}/24`, "dev", cable);
      for (const device of [cable, "lo"]) ip("-n", name, "link", "set", device, "up");
    }
    return true;
  } catch {
    removeHosts();
    return false;
  }
}

function removeHosts(): void {
  for (const { name } of hosts) {
    try {
      ip("netns", "delete", name);
    } catch {}
  }
}

const HAS_HOSTS = process.platform === "linux" && makeHosts();
cleanUpProcesses();
if (HAS_HOSTS) afterAll(removeHosts);

const where = HAS_HOSTS
  ? "two network namespaces"
  : "two addresses of loopback, as network namespaces are not to be had";

it(`goes through rounds between ${where}`, async () => {
  const address = HAS_HOSTS
    ? `${hosts[0]!.address}:29500`
    : (await freeAddress("tcp")).replace("127.0.0.1", "127.0.0.2");
  // Two ranks on one host, one on the other.
  const execArgv = (rank: number) => ["netns", "exec", hosts[rank % 2]!.name, process.execPath];
  const ranks = await joinAll(3, {
    address,
    fork: (rank) => (HAS_HOSTS ? { execPath: "ip", execArgv: execArgv(rank) } : {}),
  });
  const [a, b, c] = ranks as [ProcessRank, ProcessRank, ProcessRank];
  const { config, round } = roundsOf([9, 0, 5], { rowBytes: 100_003, hidden: 999, maxExpertStats: 3 });
  await all(ranks, "create", { config });
  expect(await all(ranks, "rounds", { ...round, count: 6, stats: true })).toEqual([[], [], []]);
  await b.kill();
  await all([a, c], "reset", { activeRanks: [0, 2] });
  expect(await all([a, c], "round", { ...round, round: 9 })).toMatchObject([{ wrong: [] }, { wrong: [] }]);
});
