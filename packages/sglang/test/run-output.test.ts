import { afterEach, describe, expect, it } from "vitest";
import { PrefixedLines } from "../src/cli/prefixed-lines.js";
import { cleanUp, Launcher, launch, linesByRank, script } from "./launcher.js";

afterEach(cleanUp);

describe("prefixed lines", () => {
  it("that never end come in parts", () => {
    const lines = new PrefixedLines("[0] ");
    const piece = Buffer.alloc(300_000, "x");
    const out = Buffer.concat([
      ...Array.from({ length: 10 }, () => lines.push(piece)),
      lines.end(),
    ]).toString();
    const parts = out.split("\n").slice(0, -1);
    expect(parts.length).toBeGreaterThan(1);
    for (const part of parts) expect(part.length).toBeLessThan(1.5e6);
    expect(parts.map((part) => part.slice("[0] ".length)).join("")).toBe("x".repeat(3_000_000));
  });

  const text = "plain\n\nzwölf Zeichen, 日本語, 🧮\r\nlast without an end 🎈";
  const expected = `[3] ${text.replaceAll("\n", "\n[3] ")}`;

  it.each([1, 2, 3, 7, 1000])("are whole, however they come: in pieces of %i bytes", (size) => {
    const bytes = Buffer.from(text);
    const lines = new PrefixedLines("[3] ");
    const out: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      const some = lines.push(bytes.subarray(at, at + size));
      // Never part of a line, as another rank may write next.
      if (some.length > 0) expect(some.at(-1)).toBe(0x0a);
      out.push(some);
    }
    out.push(lines.end());
    expect(Buffer.concat(out).toString()).toBe(`${expected}\n`);
    expect(lines.end()).toHaveLength(0);
  });

  it("pass bytes on that are no text", () => {
    const bytes = Buffer.from([0xff, 0xfe, 0x00, 0x0a, 0xc3, 0x0a]);
    expect([...new PrefixedLines("").push(bytes)]).toEqual([...bytes]);
  });
});

describe("what the ranks write", () => {
  it("has a prefix on each line, on the stream where it was written", async () => {
    // So many that listeners on one stream would be warned about.
    const ranks = Array.from({ length: 12 }, (_, rank) => rank);
    const end = await launch([
      "run",
      `--ranks=${ranks.length}`,
      await script(`
        console.log("out\\n\\nof " + process.env.RANK);
        process.stderr.write("error of " + process.env.RANK);
      `),
    ]);
    expect(linesByRank(end, ranks.length)).toEqual(ranks.map((rank) => ["out", "", `of ${rank}`]));
    const errors = ranks.map((rank) => `[${rank}] error of ${rank}`);
    expect(end.stderr.split("\n").sort()).toEqual(["", ...errors].sort());
  });

  it("stays whole where characters are split, and lines are long", async () => {
    const end = await launch([
      "run",
      "--ranks=3",
      await script(`
        import { setTimeout as sleep } from "node:timers/promises";
        for (const byte of Buffer.from("in Stücken: 日本 🧮\\n")) {
          process.stdout.write(Buffer.of(byte));
          await sleep(2);
        }
        process.stdout.write("é".repeat(300_000) + process.env.RANK + "\\nend");
      `),
    ]);
    const long = (rank: number): string => "é".repeat(300_000) + rank;
    expect(linesByRank(end, 3)).toEqual([0, 1, 2].map((rank) => ["in Stücken: 日本 🧮", long(rank), "end"]));
    expect(end.code).toBe(0);
  });

  it("arrives in full, also where the ranks end at once and it is taken slowly", async () => {
    const path = await script(`
      for (let i = 0; i < 20_000; i++) console.log("line " + i + " of " + process.env.RANK);
    `);
    const launcher = new Launcher(["run", "--ranks=2", path]);
    launcher.child.stdout!.pause();
    setTimeout(() => launcher.child.stdout!.resume(), 2500);
    const end = await launcher.ended;
    const lines = (rank: number): string[] =>
      Array.from({ length: 20_000 }, (_, i) => `line ${i} of ${rank}`);
    expect(linesByRank(end, 2)).toEqual([lines(0), lines(1)]);
    expect(end.code).toBe(0);
  });

  it("is left as it is on --no-prefix", async () => {
    const path = await script(`process.stdout.write("no end"); process.stderr.write("an error");`);
    expect(await launch(["run", "--ranks=1", "--no-prefix", path])).toMatchObject({
      code: 0,
      stdout: "no end",
      stderr: "an error",
    });
  });

  it("may lose its reader, which ranks notice as if they wrote there themselves", async () => {
    const path = await script(`
      process.stdout.on("error", ({ code }) => process.exit(code === "EPIPE" ? 0 : 1));
      setInterval(() => console.log("more"), 10);
    `);
    const launcher = new Launcher(["run", "--ranks=2", path]);
    await launcher.saw(/more/g);
    launcher.child.stdout!.destroy();
    expect(await launcher.ended).toMatchObject({ code: 0, stderr: "" });
  });
});
