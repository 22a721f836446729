import { stripVTControlCharacters } from "node:util";
import { describe, expect, it } from "vitest";
import { clip, paintZero, tokenCells } from "../src/view/format.js";
import { renderFrame } from "../src/view/live-view.js";
import { PlainView } from "../src/view/plain-view.js";

const request = {
  id: 3,
  rank: 1,
  arrivalStep: 0,
  title: "42. The Whiteness of The Whale",
  prompt: Int32Array.of(1),
  answerTokens: 1,
  vocabulary: Int32Array.of(1),
};

function plain(ranks: number, steps: number, run: (view: PlainView) => void): string[] {
  let text = "";
  const view = new PlainView({ write: (part) => (text += part) }, ranks, steps);
  run(view);
  view.close();
  return text.split("\n").slice(0, -1);
}

describe("PlainView", () => {
  it("prints a line per step, zeros in brackets", () => {
    const lines = plain(3, 2, (view) => {
      view.header(["backend: js (asked for)"]);
      view.step(0, [96, 0, 0]);
      view.step(1, [1, 12, 0]);
      view.answer(request, "the whale");
    });
    expect(lines).toEqual([
      "backend: js (asked for)",
      "tokens by rank; [0] is a rank that takes part with none",
      "      step   r0    r1    r2   zero rank-steps so far",
      "       1/2   96    [0]   [0]  2",
      "       2/2    1    12    [0]  3",
      "#3 42. The Whiteness of The Whale → the whale",
    ]);
  });

  it("prints at most about a hundred lines, the last step among them", () => {
    const lines = plain(2, 1234, (view) => {
      view.header(["a", "b", "c"]);
      for (let step = 0; step < 1234; step++) view.step(step, [1, 0]);
      for (let i = 0; i < 50; i++) view.answer(request, "word ".repeat(100));
    });
    expect(lines.length).toBeLessThan(100);
    expect(lines.length).toBeGreaterThan(70);
    expect(lines.some((line) => line.includes("1234/1234") && line.endsWith("1234"))).toBe(true);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(110);
  });
});

describe("renderFrame", () => {
  const frame = {
    ranks: 2,
    steps: 10,
    done: 5,
    tokens: 140,
    zeros: 1,
    recent: [
      { step: 3, tokensByRank: [96, 41] },
      { step: 4, tokensByRank: [3, 0] },
    ],
    answers: ["#3 42. The Whiteness of The Whale → the whale"],
  };

  it("shows the last steps, answers and progress", () => {
    expect(renderFrame(frame, 30, (text) => text)).toMatchInlineSnapshot(`
      "  step   r0    r1 
           4   96    41 
           5    3    [0]
      #3 42. The Whiteness of The …
      ████████████░░░░░░░░░░░░ 5/10 steps, 140 tokens, 1 zero rank-steps"
    `);
  });

  it("leaves out ranks that do not fit", () => {
    const wide = { ...frame, ranks: 9, recent: [{ step: 0, tokensByRank: [1, 2, 3, 4, 5, 6, 7, 8, 9] }] };
    const lines = renderFrame(wide, 31, (text) => text).split("\n");
    expect(lines.slice(0, 2)).toEqual(["  step   r0    r1    r2 …", "     1    1     2     3 "]);
  });

  it("paints zeros and nothing else", () => {
    const painted = renderFrame(frame, 30, (text) => `<${text}>`);
    expect(painted.replaceAll("<[0]>", "[0]")).toBe(renderFrame(frame, 30, (text) => text));
    expect(painted.match(/</g)).toHaveLength(1);
  });
});

describe("format", () => {
  it("keeps cells in their columns with and without colour", () => {
    expect(tokenCells([0, 10, 9999], (zero) => zero)).toBe("   [0]   10  9999 ");
    expect(stripVTControlCharacters(tokenCells([0], paintZero))).toBe("   [0]");
  });

  it("clips by characters", () => {
    expect(clip("häuser🐋🐋", 8)).toBe("häuser🐋🐋");
    expect(clip("häuser🐋🐋", 7)).toBe("häuser…");
  });
});
