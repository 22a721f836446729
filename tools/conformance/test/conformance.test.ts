import { afterAll, describe, expect, it } from "vitest";
import type * as Suite from "../src/index.js";

// As built: worker threads load the very files.
const { applies, backends, cases, Runner }: typeof Suite = await import(
  new URL("../dist/index.js", import.meta.url).href
);

const combinations = Object.values(backends).flatMap((target) =>
  target.groups.map((kind) => ({ target, kind, name: `${target.name}, ${kind} group` })),
);

describe.each(combinations)("$name", ({ target, kind }) => {
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
