import {
  CONFIG_FIELDS,
  checkConfig,
  DEFAULT_TIMEOUT_MS,
  isMoeA2AError,
  LIMITS,
  type MoeAllToAllConfig,
} from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { readDocument } from "../src/documents.js";
import { errorDetails } from "../src/error-details.js";
import { type Cell, tableWith } from "../src/tables.js";

const semantics = readDocument("docs/semantics.md");

/** The rows of a table by the code span of their first cell. */
function rowsByName(...header: readonly string[]): Map<string, readonly Cell[]> {
  const { rows } = tableWith(semantics, ...header);
  return new Map(rows.map((row) => [row[0]?.code[0] ?? "", row]));
}

/** The number that a cell starts with. */
function numberIn(cell: Cell | undefined): number {
  return Number(/^[\d,]+/.exec(cell?.text ?? "")?.[0].replaceAll(",", ""));
}

describe("the error table", () => {
  const rows = rowsByName("code", "when", "fields");

  it("has a row for every code, and no other", () => {
    expect([...rows.keys()].sort()).toEqual([...errorDetails().keys()].sort());
  });

  it.each([...errorDetails()])("names the fields of %s", (code, fields) => {
    expect(rows.get(code)?.[2]?.code).toEqual(fields);
  });
});

describe("the table of limits", () => {
  const rows = rowsByName("value", "least", "most", "default");
  /** Limits of core that stand in the table under another name. */
  const names: Readonly<Record<string, readonly string[]>> = {
    bytesPerToken: ["maxDispatchBytesPerToken", "maxCombineBytesPerToken"],
  };

  it.each(Object.entries(LIMITS))("gives %s as %d", (limit, value) => {
    const shown = (names[limit] ?? [limit]).map((name) => numberIn(rows.get(name)?.[2]));
    expect(shown).toEqual(shown.map(() => value));
  });

  it("has a row for every config field", () => {
    expect([...CONFIG_FIELDS].filter((field) => !rows.has(field))).toEqual([]);
  });

  const smallest: MoeAllToAllConfig = {
    epSize: 1,
    numExperts: LIMITS.numExperts,
    topK: 1,
    maxTokensPerRank: 1,
    maxDispatchBytesPerToken: 1,
    maxCombineBytesPerToken: 1,
  };
  const accepts = (field: string, value: number): boolean => {
    try {
      checkConfig({ ...smallest, [field]: value });
      return true;
    } catch (error) {
      if (isMoeA2AError(error, "ERR_MOE_A2A_CONFIG") && error.field === field) return false;
      throw error;
    }
  };
  const numeric = CONFIG_FIELDS.filter((field) => Number.isInteger(numberIn(rows.get(field)?.[1])));

  it("has numbers for all fields but the one that is a word", () => {
    expect(CONFIG_FIELDS.filter((field) => !numeric.includes(field))).toEqual(["invalidExpert"]);
  });

  it.each(numeric)("gives the bounds that %s is held to", (field) => {
    const [, least, most] = rows.get(field) ?? [];
    const [low, high] = [numberIn(least), numberIn(most)];
    expect([low - 1, low, high, high + 1].map((value) => accepts(field, value))).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  it("gives the defaults", () => {
    const { maxExpertStats, invalidExpert, timeoutMs, roundsInFlight } = checkConfig(smallest);
    expect(timeoutMs).toBe(DEFAULT_TIMEOUT_MS);
    const shown = (field: string): Cell | undefined => rows.get(field)?.[3];
    expect(numberIn(shown("maxExpertStats"))).toBe(maxExpertStats);
    expect(shown("invalidExpert")?.code).toEqual([JSON.stringify(invalidExpert)]);
    expect(numberIn(shown("timeoutMs"))).toBe(timeoutMs);
    expect(numberIn(shown("roundsInFlight"))).toBe(roundsInFlight);
  });
});
