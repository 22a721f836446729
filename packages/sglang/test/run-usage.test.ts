import { createRequire } from "node:module";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cleanUp, launch, script } from "./launcher.js";

let path: string;
beforeEach(async () => {
  path = await script(`console.log("ran")`);
});
afterEach(cleanUp);

const secret = { MOE_A2A_SECRET: "sixteen bytes do" };
const nodes = ["--nodes", "2", "--node-rank", "1", "--address", "127.0.0.1:4567"];

describe("wrong arguments", () => {
  // What follows "run --ranks 2", unless it brings its own; a script is there in any case.
  it.each<[string, string[], NodeJS.ProcessEnv?]>([
    ["--ranks is missing; give it the number of processes", ["run"]],
    ['--ranks is "0"; it must be an integer from 1 to 64', ["run", "--ranks", "0"]],
    ['--ranks is "two"; it must be an integer from 1 to 64', ["run", "--ranks=two"]],
    ["Unknown option '--rank'", ["--rank", "2"]],
    ["Option '--no-prefix' does not take an argument", ["--no-prefix=1"]],
    ['--grace is "-1"; it must be an integer from 0 to 2147483647', ["--grace=-1"]],
    ['--address is "here"; it must be HOST:PORT ("[HOST]:PORT" for IPv6)', ["--address", "here"]],
    ['--address is "::1:80"; it must be', ["--address", "::1:80"]],
    ['--address is "here:65536"; it must be', ["--address", "here:65536"]],
    ['--address is "unix:/path"; it must be', ["--address", "unix:/path"]],
    ["--ranks 2 on --nodes 33 are 66 ranks; a group has at most 64", ["--nodes", "33"]],
    ["--nodes needs --node-rank: which node is this?", ["--nodes", "2", ...nodes.slice(4)]],
    ["--nodes needs --address HOST:PORT, a port of node 0 for all to meet at", nodes.slice(0, 4)],
    ["--node-rank needs --nodes: how many nodes are there?", ["--node-rank", "0"]],
    ['--node-rank is "2"; it must be an integer from 0 to 1', [...nodes, "--node-rank", "2"], secret],
    ["MOE_A2A_SECRET is not set in the environment; with --nodes, set it to the same random text", nodes],
    ["MOE_A2A_SECRET has 3 bytes in the environment; with --nodes", nodes, { MOE_A2A_SECRET: "abc" }],
  ])("%s", async (message, given, env) => {
    const args = given[0] === "run" ? given : ["run", "--ranks", "2", ...given];
    const end = await launch([...args, path], env);
    expect(end).toMatchObject({ code: 2, stdout: "" });
    expect(end.stderr).toContain(`moe-a2a: ${message}`);
    expect(end.stderr).toMatch(/\nmoe-a2a run --help shows what can be given\.\n$/);
    expect(end.stderr).not.toContain("abc");
  });

  it.each([
    ["no script is given; name it after the options", ["run", "--ranks", "2"]],
    ["there is no script /no/such/script.mjs", ["run", "--ranks", "2", "/no/such/script.mjs"]],
  ])("%s", async (message, args) => {
    expect(await launch(args)).toMatchObject({
      code: 2,
      stdout: "",
      stderr: `moe-a2a: ${message}\nmoe-a2a run --help shows what can be given.\n`,
    });
  });

  it.each([
    ["no command is given", []],
    ['there is no command "walk"', ["walk"]],
    ['there is no command "toString"', ["toString"]],
  ])("%s", async (message, args) => {
    expect(await launch(args)).toMatchObject({
      code: 2,
      stdout: "",
      stderr: `moe-a2a: ${message}\nmoe-a2a --help shows what can be given.\n`,
    });
  });
});

describe("help", () => {
  it.each([["--help"], ["-h"]])("%s names the commands", async (flag) => {
    const { code, stdout, stderr } = await launch([flag]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatchInlineSnapshot(`
      "Usage: moe-a2a <command> [options]

        run     starts one process per rank of a script
        doctor  looks at this machine and this installation, and plays a round

      moe-a2a <command> --help shows the options of a command; moe-a2a --version tells the version.
      "
    `);
  });

  it("has the version, too", async () => {
    const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string };
    expect(await launch(["--version"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  it("of a command names its options, and runs nothing", async () => {
    const { code, stdout } = await launch(["run", "--ranks", "2", "--help", path]);
    expect(code).toBe(0);
    const options = [
      "ranks",
      "grace",
      "trace",
      "node-arg",
      "no-prefix",
      "address",
      "help",
      "nodes",
      "node-rank",
    ];
    for (const option of options) expect(stdout).toContain(`  --${option}`);
    expect(stdout).not.toContain("ran\n");
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(105);
  });
});
