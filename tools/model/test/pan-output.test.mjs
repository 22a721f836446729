import { describe, expect, it } from "vitest";
import { readPanOutput } from "../pan-output.mjs";

const report = (errors) => `
State-vector 156 byte, depth reached 144, errors: ${errors}
     3615 states, stored
     2417 states, matched
`;

describe("what a verifier says", () => {
  it("is a proof where the search came to its end without an error", () => {
    expect(readPanOutput(report(0))).toEqual({ result: "proved", states: 3615, depth: 144 });
    expect(readPanOutput(report(0).replace("3615", "1.0767e+06")).states).toBe(1_076_700);
  });

  it("is a violation where it found one, although that ended the search", () => {
    const found = "pan:1: invalid end state (at depth 60)\nWarning: Search not completed\n";
    expect(readPanOutput(found + report(1))).toMatchObject({ result: "violated", why: "invalid end state" });
    const assertion = "pan:1: assertion violated  !(bad) (at depth 9)\n";
    expect(readPanOutput(assertion + report(1)).why).toBe("assertion violated !(bad)");
  });

  it.each([
    ["the depth was too small", `error: max search depth too small\n${report(0)}`],
    ["memory ran out", `pan: reached -DMEMLIM bound\n${report(0)}`],
    ["memory ran out before", "pan: out of memory\n"],
    ["it was stopped", `Warning: Search not completed\n${report(0)}`],
    ["it counts an error that it does not name", report(1)],
    ["it said nothing", ""],
  ])("is no proof where %s", (_, output) => {
    expect(readPanOutput(output).result).toBe("truncated");
  });
});
