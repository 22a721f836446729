import { afterAll, describe, expect, it } from "vitest";
import type * as Suite from "../src/index.js";

// As built: worker threads load the very files.
const { applies, cases, loadBackend, Runner }: typeof Suite = await import(
  new URL("../dist/index.js", import.meta.url).href
);

// The CUDA backend runs them where there are GPUs: tools/gpu.
const target = await loadBackend("js");
const combinations = target.groups.map((kind) => ({ kind, name: `${target.name}, ${kind} group` }));

describe.each(combinations)("$name", ({ kind }) => {
  const runner = new Runner({ target, kind });
  afterAll(() => runner.close());

  for (const c of cases.filter((c) => applies(c, target, kind))) {
    // The runner's own deadline is shorter, and says more.
    it(c.name, { timeout: 300_000 }, async () => {
      const { failure } = await runner.run(c);
      expect(failure ?? "passed").toBe("passed");
    });
  }
});
