import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const program = fileURLToPath(new URL("../dist/main.js", import.meta.url));

/** The last line of a run in a process of its own, which may crash or hang; everything where it fails. */
async function fuzz(...args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args]).catch(
    (error: { stdout: string; stderr: string }) => {
      throw new Error(`${error.stdout}\n${error.stderr}`);
    },
  );
  return stdout.trimEnd().split("\n").at(-1)!;
}

// The long settings are in the README; these are enough to see that nothing gives way at once.
describe("a short run of the fuzzer", { timeout: 60_000 }, () => {
  it("calls the public surface", async () => {
    expect(await fuzz("surface", "--cases", "1500")).toMatch(/^surface: 1500 cases, \d+ calls/);
  });

  it("sends frames to ranks", async () => {
    expect(await fuzz("frames", "--frames", "40000")).toMatch(/^frames: 4\d{4} frames in \d+ attacks/);
  });

  it("lets strangers come to the doors of ranks", async () => {
    const said = await fuzz("strangers", "--joins", "8", "--floods", "1", "--connections", "300");
    expect(said).toMatch(/^strangers: 8 groups made among \d+ strangers; \d+ exact rounds/);
  });

  it("calls the addon, where there is one", async () => {
    expect(await fuzz("addon", "--calls", "20000", "--threads", "3")).toMatch(
      /^addon: (20000 calls|not built|handles)/,
    );
  });
});
