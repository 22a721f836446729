import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { cleanUp, cli, gone, isAlive, Launcher, launch, script } from "./launcher.js";

afterEach(cleanUp);

/** A rank that tells its process, runs on, and says which signals it takes; `more` comes first. */
const rank = (more = "") => `
  const take = (signal, then = () => {}) => process.on(signal, () => { console.log("took", signal); then(); });
  const { RANK } = process.env;
  setInterval(() => {}, 1000);
  ${more}
  console.log("pid", process.pid);
`;

async function start(ranks: number, text: string, options: string[] = []) {
  const launcher = new Launcher(["run", `--ranks=${ranks}`, ...options, await script(text)]);
  const told = await launcher.saw(/pid (\d+)/g, ranks);
  return { launcher, pids: told.map(([, pid]) => Number(pid)) };
}

describe("output that nobody reads", () => {
  it.each(["SIGTERM", "SIGINT"] as const)("does not keep a launcher that got %s", async (signal) => {
    const noisy = `for (;;) await new Promise((then) => process.stdout.write("x".repeat(99_999) + "\\n", then));`;
    const args = ["run", "--ranks=2", "--grace=300", await script(noisy)];
    const child = spawn(process.execPath, [cli, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const ended = once(child, "exit");
    // It has begun, and is not read any further.
    await once(child.stdout, "readable");
    await sleep(500);
    child.kill(signal);
    expect(await ended).toEqual([128 + constants.signals[signal], null]);
    expect(stderr).toContain("moe-a2a: nobody reads what the ranks wrote");
  });
});

describe("a rank that fails", () => {
  it("ends the others, and gives its exit code", async () => {
    const fail = `if (RANK === "1") setTimeout(() => { console.error("why"); process.exit(7); }, 500);`;
    const { launcher, pids } = await start(3, rank(fail));
    const { code, stderr } = await launcher.ended;
    expect({ code, stderr }).toEqual({
      code: 7,
      stderr: "[1] why\nmoe-a2a: rank 1 ended with exit code 7; the others are ended\n",
    });
    expect(pids.map(isAlive)).toEqual([false, false, false]);
  });

  it("by a signal gives 128 and its number", async () => {
    const { launcher, pids } = await start(2, rank());
    process.kill(pids[0]!, "SIGUSR2");
    const { code, stderr } = await launcher.ended;
    expect(code).toBe(128 + constants.signals.SIGUSR2);
    expect(stderr).toMatch(/^moe-a2a: rank \d was ended by SIGUSR2; the others are ended\n$/);
    expect(pids.map(isAlive)).toEqual([false, false]);
  });

  it("by an uncaught error shows it above the launcher's word", async () => {
    const end = await launch(["run", "--ranks=1", await script(`throw new Error("such a thing");`)]);
    expect(end.code).toBe(1);
    expect(end.stderr).toMatch(
      /\[0\] Error: such a thing\n[\s\S]*\nmoe-a2a: rank 0 ended with exit code 1\n$/,
    );
  });

  it("ends those too that ignore SIGTERM, after the grace period", async () => {
    const stubborn = `take("SIGTERM"); if (RANK === "0") setTimeout(() => process.exit(3), 500);`;
    const { launcher, pids } = await start(2, rank(stubborn), ["--grace", "300"]);
    const { code, stdout, stderr } = await launcher.ended;
    expect(code).toBe(3);
    expect(stdout).toContain("[1] took SIGTERM\n");
    expect(stderr).toContain("moe-a2a: after 300 ms still there, and killed: 1\n");
    expect(pids.map(isAlive)).toEqual([false, false]);
  });

  it("does not hurry those that need some time", async () => {
    const slow = `
      if (RANK === "0") setTimeout(() => process.exit(3), 500);
      else take("SIGTERM", () => setTimeout(() => { console.log("done"); process.exit(0); }, 700));
    `;
    const { launcher } = await start(2, rank(slow));
    const { code, stdout, stderr } = await launcher.ended;
    expect(code).toBe(3);
    expect(stdout).toMatch(/\[1\] took SIGTERM\n\[1\] done\n$/);
    expect(stderr).not.toContain("killed");
  });

  it("is not made by one that ends well before the others", async () => {
    const { launcher } = await start(2, rank(`setTimeout(() => process.exit(0), RANK === "0" ? 0 : 700);`));
    expect(await launcher.ended).toMatchObject({ code: 0, stderr: "" });
  });
});

describe("signals", () => {
  it.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("%s reaches every rank", async (signal) => {
    const { launcher, pids } = await start(3, rank(`take("${signal}", () => process.exit(0));`));
    launcher.child.kill(signal);
    const { code, stdout, stderr } = await launcher.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.match(/took/g)).toHaveLength(3);
    expect(pids.map(isAlive)).toEqual([false, false, false]);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s ends ranks that have no handler, with exit code %i", async (signal, code) => {
    const { launcher } = await start(2, rank());
    launcher.child.kill(signal);
    const end = await launcher.ended;
    expect(end).toMatchObject({ code, signal: null });
    expect(end.stderr).toMatch(new RegExp(`^moe-a2a: rank \\d was ended by ${signal}`));
  });

  it("leave ranks in peace that clean up, although another has ended", async () => {
    const clean = `
      if (RANK === "1") {
        take("SIGTERM");
        take("SIGINT", () => setTimeout(() => { console.log("clean"); process.exit(0); }, 500));
      }
    `;
    const { launcher } = await start(2, rank(clean));
    launcher.child.kill("SIGINT");
    const { code, stdout } = await launcher.ended;
    expect(code).toBe(130);
    expect(stdout).toMatch(/\[1\] took SIGINT\n\[1\] clean\n$/);
  });

  it("kill, where SIGINT comes again", async () => {
    const { launcher, pids } = await start(2, rank(`take("SIGINT");`));
    launcher.child.kill("SIGINT");
    // As npx does, which passes on what came to this process already.
    await sleep(20);
    launcher.child.kill("SIGINT");
    await launcher.saw(/took SIGINT/g, 2);
    await sleep(500);
    expect(pids.map(isAlive)).toEqual([true, true]);
    launcher.child.kill("SIGINT");
    const end = await launcher.ended;
    expect(end.stdout.match(/took/g)).toHaveLength(2);
    expect(end).toMatchObject({
      code: 130,
      stderr: "moe-a2a: interrupted again; the ranks are killed\n",
    });
    expect(pids.map(isAlive)).toEqual([false, false]);
  });
});

describe("no process is left", () => {
  const child = `
    import { spawn } from "node:child_process";
    const child = spawn(process.execPath, ["--eval", "setInterval(() => {}, 1000)"], { stdio: "inherit" });
    console.log("child", child.pid);
  `;

  it("of those that a rank has started", async () => {
    const launcher = new Launcher(["run", "--ranks=1", await script(`${child} process.exit(0);`)]);
    const [[, pid]] = (await launcher.saw(/child (\d+)/g)) as [RegExpMatchArray];
    expect(await launcher.ended).toMatchObject({ code: 0, stderr: "" });
    await gone(Number(pid));
  });

  it("where the launcher is killed, as soon as ranks take SIGTERM", async () => {
    const { launcher, pids } = await start(2, rank());
    launcher.child.kill("SIGKILL");
    expect(await launcher.ended).toMatchObject({ signal: "SIGKILL" });
    for (const pid of pids) await gone(pid);
  });

  it("where the launcher is killed, also of ranks that ignore SIGTERM", async () => {
    const { launcher, pids } = await start(2, rank(`take("SIGTERM");`), ["--grace", "1000"]);
    launcher.child.kill("SIGKILL");
    await sleep(500);
    expect(pids.map(isAlive)).toEqual([true, true]);
    for (const pid of pids) await gone(pid);
  });
});

it("does not wait for long for a process that left its rank and goes on writing", async () => {
  const launcher = new Launcher([
    "run",
    "--ranks=1",
    await script(`
      import { spawn } from "node:child_process";
      const options = { stdio: "inherit", detached: true };
      const { pid } = spawn(process.execPath, ["--eval", "setInterval(() => console.log('tick'), 300)"], options);
      console.log("left", pid);
      setTimeout(() => process.exit(3), 200);
    `),
  ]);
  const [[, pid]] = (await launcher.saw(/left (\d+)/g)) as [RegExpMatchArray];
  expect(await launcher.ended).toMatchObject({
    code: 3,
    stderr: expect.stringContaining("rank 0 ended with exit code 3"),
  });
  process.kill(Number(pid), "SIGKILL");
});

it("does not wait for a process that left its rank and holds the output", async () => {
  const launcher = new Launcher([
    "run",
    "--ranks=1",
    await script(`
      import { spawn } from "node:child_process";
      const options = { stdio: "inherit", detached: true };
      const { pid } = spawn(process.execPath, ["--eval", "setTimeout(() => {}, 60_000)"], options);
      console.log("left", pid);
      process.exit(0);
    `),
  ]);
  const [[, pid]] = (await launcher.saw(/left (\d+)/g)) as [RegExpMatchArray];
  expect(await launcher.ended).toMatchObject({ code: 0, stderr: "" });
  process.kill(Number(pid), "SIGKILL");
});

it("runs where there is no shell to watch over it", async () => {
  const path = await script(`console.log("fine")`);
  expect(await launch(["run", "--ranks=1", path], { PATH: "/nowhere" })).toMatchObject({
    code: 0,
    stdout: "[0] fine\n",
    stderr: "",
  });
});
