import { describe, expect, it } from "vitest";
import { checkConfig, isMoeA2AError, LIMITS, type MoeAllToAllConfig, planWorkspace } from "../src/index.js";

const base: MoeAllToAllConfig = {
  epSize: 4,
  numExperts: 16,
  topK: 2,
  maxTokensPerRank: 8,
  maxDispatchBytesPerToken: 64,
  maxCombineBytesPerToken: 32,
};

function failure(change: object): { code: string; field: unknown; value: unknown; message: string } {
  try {
    checkConfig({ ...base, ...change });
  } catch (error) {
    if (isMoeA2AError(error, "ERR_MOE_A2A_CONFIG")) return error;
    throw error;
  }
  throw new Error(`${JSON.stringify(change)} was accepted`);
}

describe("checkConfig", () => {
  it("fills in the defaults and freezes the result", () => {
    const config = checkConfig(base);
    expect(config).toEqual({
      ...base,
      maxExpertStats: 0,
      invalidExpert: "error",
      timeoutMs: 30_000,
      roundsInFlight: 1,
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it.each([
    [{ epSize: 1, numExperts: 1, topK: 1 }],
    [{ epSize: 64, numExperts: 64, topK: 32 }],
    [{ maxTokensPerRank: 1, maxDispatchBytesPerToken: 1, maxCombineBytesPerToken: 1 }],
    [{ timeoutMs: 1 }],
    [{ timeoutMs: 2 ** 31 - 1, roundsInFlight: 2, invalidExpert: "drop", maxExpertStats: 5 }],
  ])("accepts the limits themselves: %j", (change) => {
    expect(checkConfig({ ...base, ...change } as MoeAllToAllConfig)).toMatchObject(change);
  });

  it.each([
    ["epSize", 0],
    ["epSize", 65],
    ["epSize", 1.5],
    ["epSize", "4"],
    ["epSize", undefined],
    ["epSize", Number.NaN],
    ["numExperts", 3],
    ["numExperts", 2 ** 31],
    ["topK", 0],
    ["topK", 33],
    ["topK", 17],
    ["maxTokensPerRank", 0],
    ["maxTokensPerRank", Number.POSITIVE_INFINITY],
    ["maxDispatchBytesPerToken", 0],
    ["maxCombineBytesPerToken", -1],
    ["maxExpertStats", -1],
    ["invalidExpert", "ignore"],
    ["timeoutMs", 0],
    ["timeoutMs", 2 ** 31],
    ["timeoutMs", 10.5],
    ["roundsInFlight", 3],
    ["roundsInFlight", null],
  ])("refuses %s = %s, naming field and value", (field, value) => {
    const error = failure({ [field]: value });
    expect(error).toMatchObject({ code: "ERR_MOE_A2A_CONFIG", field });
    expect(error.value).toBe(value);
    expect(error.message).toContain(`config.${field} is `);
  });

  it("tells the limit in the message", () => {
    expect(failure({ epSize: 65 }).message).toMatchInlineSnapshot(
      `"config.epSize is 65: it must be an integer from 1 to 64"`,
    );
    expect(failure({ numExperts: 3 }).message).toMatchInlineSnapshot(
      `"config.numExperts is 3: every rank needs an expert, so it must be at least epSize (4)"`,
    );
    expect(failure({ topK: 17 }).message).toMatchInlineSnapshot(
      `"config.topK is 17: a token cannot choose more experts than there are (numExperts is 16)"`,
    );
    expect(failure({ invalidExpert: "ignore" }).message).toMatchInlineSnapshot(
      `"config.invalidExpert is "ignore": it must be "error" or "drop""`,
    );
  });

  it.each([null, undefined, 4, "config"])("refuses %s for a config", (config) => {
    expect(() => checkConfig(config as never)).toThrowError(/the config is .*, not an object/);
  });

  it("is what planWorkspace checks first", () => {
    expect(() => planWorkspace({ ...base, epSize: 65 })).toThrowError(/config\.epSize is 65/);
  });

  it("has the limits of the contract", () => {
    expect(LIMITS).toMatchObject({ epSize: 64, topK: 32, payloads: 8, timeoutMs: 2 ** 31 - 1 });
  });

  it("names a rank only where it is one", () => {
    const holes = Object.assign([], { length: 2 ** 32 - 1 });
    expect(() => checkConfig({} as never, holes as never)).toThrowError(/^config\.epSize is undefined/);
    expect(() => checkConfig({} as never, 3)).toThrowError(/^rank 3: config\.epSize is undefined/);
  });
});
