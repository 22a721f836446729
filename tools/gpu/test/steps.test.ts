import { describe, expect, it } from "vitest";
import { chooseSteps, steps } from "../src/steps.js";

describe("choosing steps", () => {
  it("takes names and groups, and keeps their order", () => {
    expect(chooseSteps("all")).toEqual(Object.keys(steps));
    expect(chooseSteps("soak,probe")).toEqual(["probe", "soak"]);
    expect(chooseSteps("examples,trace,demo,doctor")).toEqual(["doctor", "demo", "trace", "examples"]);
    expect(chooseSteps("sanitizer,memcheck")).toEqual(["memcheck", "racecheck", "synccheck"]);
    expect(chooseSteps("conformance")).toEqual([
      "conformance-local",
      "conformance-threads",
      "conformance-processes",
    ]);
  });

  it("refuses what there is not", () => {
    expect(() => chooseSteps("probe,nonsense")).toThrow(
      'there is no step "nonsense"; one of: all, conformance,',
    );
  });
});
