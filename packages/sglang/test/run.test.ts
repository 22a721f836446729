import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { CORE, cleanUp, Launcher, launch, linesByRank, script } from "./launcher.js";

afterEach(cleanUp);

const NAMES = [
  "RANK",
  "LOCAL_RANK",
  "WORLD_SIZE",
  "LOCAL_WORLD_SIZE",
  "MASTER_ADDR",
  "MASTER_PORT",
  "MOE_A2A_SECRET",
];

/** Prints what a rank finds: environment, arguments, and those of Node. */
const TELL = `
  const env = Object.fromEntries(${JSON.stringify([...NAMES, "OTHER"])}.map((name) => [name, process.env[name]]));
  console.log(JSON.stringify({ env, args: process.argv.slice(2), execArgv: process.execArgv, cwd: process.cwd() }));
`;

interface Told {
  readonly env: Readonly<Record<string, string>>;
  readonly args: readonly string[];
  readonly execArgv: readonly string[];
  readonly cwd: string;
}

async function tell(
  ranks: number,
  given: { options?: string[]; args?: string[]; env?: NodeJS.ProcessEnv } = {},
): Promise<Told[]> {
  const { options = [], args = [], env } = given;
  const end = await launch(["run", "--ranks", String(ranks), ...options, await script(TELL), ...args], env);
  expect(end).toMatchObject({ code: 0, signal: null, stderr: "" });
  return linesByRank(end, ranks).map(([line]) => JSON.parse(line!) as Told);
}

/** Joins with what is in the environment, and tells what the ranks sent to one another. */
const EXCHANGE = `
  import { joinProcessGroup } from ${CORE};
  const group = await joinProcessGroup();
  const values = await group.exchange("who", new TextEncoder().encode("rank " + group.rank));
  console.log(values.map((value) => new TextDecoder().decode(value)).join(", "));
  await group.close();
`;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

describe("moe-a2a run", () => {
  it("gives each rank the environment that joinProcessGroup() reads, and the rest of its own", async () => {
    const told = await tell(3, { env: { OTHER: "kept", RANK: "7", WORLD_SIZE: "9", MOE_A2A_SECRET: "old" } });
    const [{ env: first }] = told as [Told];
    expect(told.map(({ env }) => env)).toEqual(
      [0, 1, 2].map((rank) => ({
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        WORLD_SIZE: "3",
        LOCAL_WORLD_SIZE: "3",
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: first.MASTER_PORT,
        MOE_A2A_SECRET: first.MOE_A2A_SECRET,
        OTHER: "kept",
      })),
    );
    expect(Number(first.MASTER_PORT)).toBeGreaterThan(1023);
    expect(Buffer.from(first.MOE_A2A_SECRET!, "base64url")).toHaveLength(32);
    expect(told.map(({ cwd }) => cwd)).toEqual(new Array(3).fill(process.cwd()));
    const [again] = await tell(1);
    expect(again!.env.MOE_A2A_SECRET).not.toBe(first.MOE_A2A_SECRET);
  });

  it("passes the script's arguments on as they are, options of its own among them", async () => {
    const args = [
      "--ranks",
      "9",
      "--",
      "",
      "two words",
      "--help",
      "-h",
      "$HOME",
      "*",
      '"',
      "\\",
      "ü\n",
      "--",
    ];
    const told = await tell(2, { args });
    expect(told.map((rank) => rank.args)).toEqual([args, args]);
  });

  it("passes arguments for Node on", async () => {
    const [told] = await tell(1, { options: ["--node-arg=--no-warnings", "--node-arg=--stack-size=900"] });
    expect(told!.execArgv).toEqual(["--no-warnings", "--stack-size=900"]);
  });

  it.each([
    ["127.0.0.1:4567", "127.0.0.1", "4567"],
    [":4567", "127.0.0.1", "4567"],
    ["[::1]:4567", "::1", "4567"],
    ["node-0.cluster:4567", "node-0.cluster", "4567"],
  ])("takes the address %s", async (address, host, port) => {
    const [told] = await tell(1, { options: ["--address", address] });
    expect(told!.env).toMatchObject({ MASTER_ADDR: host, MASTER_PORT: port });
  });

  it("finds scripts as Node does, also those whose names look like options", async () => {
    const named = await script("console.log(__filename)", "-x.cjs");
    const folder = named.slice(0, -"/-x.cjs".length);
    const packaged = await script("console.log('by folder')", "index.js");
    const inFolder = packaged.slice(0, -"/index.js".length);
    const end = await launch(["run", "--ranks=1", "--", `${folder}/-x.cjs`]);
    expect(end).toMatchObject({ code: 0, stdout: `[0] ${named}\n` });
    expect(await launch(["run", "--ranks=1", inFolder])).toMatchObject({
      code: 0,
      stdout: "[0] by folder\n",
    });
  });

  it("lets ranks meet by joinProcessGroup() without arguments", async () => {
    const end = await launch(["run", "--ranks", "3", await script(EXCHANGE)]);
    expect(end).toMatchObject({ code: 0, stderr: "" });
    expect(linesByRank(end, 3)).toEqual(new Array(3).fill(["rank 0, rank 1, rank 2"]));
  });

  it("keeps the secret out of command lines and of what it writes", async () => {
    const look = await script(`
      import { execFileSync } from "node:child_process";
      const lines = execFileSync("ps", ["-A", "-o", "args"], { encoding: "utf8" });
      console.log(lines.includes(process.argv[1]), lines.includes(process.env.MOE_A2A_SECRET));
      process.exitCode = 1;
    `);
    const secret = "a shared secret of the tests";
    const address = `127.0.0.1:${await freePort()}`;
    const nodes = ["--nodes", "2", "--node-rank", "0", "--address", address];
    const end = await launch(["run", "--ranks", "1", ...nodes, look], { MOE_A2A_SECRET: secret });
    expect(end).toMatchObject({ code: 1, stdout: "[0] true false\n" });
    expect(end.stderr).not.toContain(secret);
  });
});

describe("moe-a2a run on several nodes", () => {
  const launchNodes = async (text: string, env: NodeJS.ProcessEnv): Promise<Launcher[]> => {
    const shared = ["run", "--ranks", "2", "--nodes", "2", "--address", `127.0.0.1:${await freePort()}`];
    const path = await script(text);
    return [0, 1].map((node) => new Launcher([...shared, "--node-rank", String(node), path], env));
  };

  it("numbers the ranks through, and takes the secret of the environment", async () => {
    const secret = "a shared secret of the tests";
    const nodes = await launchNodes(TELL, { MOE_A2A_SECRET: secret });
    const ends = await Promise.all(nodes.map(({ ended }) => ended));
    const told = ends
      .flatMap((end) => linesByRank(end, 4).flat())
      .map((line) => (JSON.parse(line) as Told).env);
    expect(told).toMatchObject(
      [0, 1, 2, 3].map((rank) => ({
        RANK: String(rank),
        LOCAL_RANK: String(rank % 2),
        WORLD_SIZE: "4",
        LOCAL_WORLD_SIZE: "2",
        MOE_A2A_SECRET: secret,
      })),
    );
  });

  it("lets the ranks of all nodes meet", async () => {
    const nodes = await launchNodes(EXCHANGE, { MOE_A2A_SECRET: "a shared secret of the tests" });
    for (const [node, { ended }] of nodes.entries()) {
      const end = await ended;
      expect(end).toMatchObject({ code: 0, stderr: "" });
      const all = ["rank 0, rank 1, rank 2, rank 3"];
      expect(linesByRank(end, 4)).toEqual(node === 0 ? [all, all, [], []] : [[], [], all, all]);
    }
  });
});
