import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

/** Runs an ES module over the built packages in a process of its own. */
async function run(body: string): Promise<string> {
  const script = `
    const { createLocalGroup, tensor } = await import(${url("../../core/dist/index.js")});
    const { jsBackend } = await import(${url("../dist/index.js")});
    const config = { epSize: 2, numExperts: 2, topK: 1, maxTokensPerRank: 1, maxDispatchBytesPerToken: 4, maxCombineBytesPerToken: 4, timeoutMs: 200 };
    const groups = createLocalGroup(2);
    const input = { numLocalTokens: 0, tokenSelectedExperts: tensor("int32", [0, 1]), payloads: [tensor("int32", [0, 1])] };
    ${body}
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script]);
  return stdout.trim();
}

describe("the process", () => {
  it("lives as long as a ready() is pending", async () => {
    const out = await run(`
      const [a2a] = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
      a2a.dispatch(input).ready().catch((error) => console.log(error.code));
    `);
    expect(out).toBe("ERR_MOE_A2A_PEER_TIMEOUT");
  });

  it("lives as long as a create() or a reset() is pending", async () => {
    const out = await run(`
      jsBackend.create(config, groups[0]).catch(async (error) => {
        console.log(error.phase);
        const [a2a] = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
        a2a.reset().catch((error) => console.log(error.phase));
      });
    `);
    expect(out).toBe("create\nreset");
  });

  it("ends by itself with rounds that nobody waits for, failed ones too", async () => {
    const out = await run(`
      const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
      for (const a2a of a2as) a2a.dispatch(input);
      a2as[0].abort("nobody asks");
      process.on("exit", (code) => console.log("exit", code));
    `);
    expect(out).toBe("exit 0");
  });

  it("loads the packages by require() too", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      "--eval",
      `const { jsBackend } = require(${JSON.stringify(new URL("../dist/index.js", import.meta.url).pathname)}); console.log(jsBackend.status().available)`,
    ]);
    expect(stdout.trim()).toBe("true");
  });
});
