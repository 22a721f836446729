import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readDocument } from "../src/documents.js";
import { exampleFile, exampleNames, runExample } from "../src/examples.js";
import { tableWith } from "../src/tables.js";

const LIMIT_MS = 40_000;

describe("examples", () => {
  it("are listed in their README, with a command for each", () => {
    const { rows } = tableWith(readDocument("examples/README.md"), "program", "what it shows", "start it");
    expect(rows.map(([program]) => program?.code[0]).sort()).toEqual(
      exampleNames().map((name) => `${name}.mjs`),
    );
    for (const [program, , start] of rows) {
      expect(start?.code).toEqual([`npm run example ${program?.code[0]?.replace(".mjs", "")}`]);
    }
  });

  it("serve with a dispatcher in 60 lines, on ranks that run dry", { timeout: LIMIT_MS }, async () => {
    expect(readFileSync(exampleFile("serving-loop"), "utf8").trimEnd().split("\n").length).toBeLessThan(61);
    const lines = await runExample("serving-loop");
    expect(lines[0]).toBe("step 0: tokens by rank 0 1 2 3");
    expect(lines.at(-2)).toBe("step 10: tokens by rank 0 0 0 1");
    expect(lines.at(-1)).toBe("step 11: tokens by rank 0 0 0 0");
  });

  it("run ranks in processes, one of them without tokens", { timeout: LIMIT_MS }, async () => {
    const lines = await runExample("process-ranks", 3);
    expect(lines.sort()).toEqual(
      [0, 1, 2].flatMap((rank) =>
        [0, 1, 2].map((step) => `[${rank}] step ${step}: sent ${rank}, received ${[2, 1, 0][rank]}`),
      ),
    );
  });

  it("replay a graph where there is a GPU, and else say what is missing", { timeout: LIMIT_MS }, async () => {
    const lines = await runExample("gpu-graph");
    if (lines.length === 1) expect(lines[0]).toMatch(/^no CUDA here: .+; .+/);
    else {
      const replays = ["3 and 0", "0 and 0", "1 and 4"];
      expect(lines).toEqual(replays.map((tokens) => `replayed with ${tokens} tokens`));
    }
  });

  it("are all run by these tests", () => {
    expect(exampleNames()).toEqual(["gpu-graph", "process-ranks", "serving-loop"]);
  });
});
