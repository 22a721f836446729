import type { DrivenCase } from "../case.js";
import { CheckFailure } from "../check.js";
import { makeScenario, nameScenario } from "./scenario.js";

/** Scenarios in the suite; `npm run faults` plays more. */
const SCENARIOS = 30;
/** Other tests run beside these. */
const SHORT_MS = 1500;

/** A selection of faults, each with what the other ranks must be told and how they go on. */
export const randomFaults: readonly DrivenCase[] = [
  {
    name: "faults: random scenarios",
    async drive({ target, kind, seed, play }) {
      for (let n = 0; n < SCENARIOS; n++) {
        const scenario = makeScenario(seed, n, kind, { maxRanks: target.maxRanks, shortMs: SHORT_MS });
        try {
          await play({ scenario });
        } catch (error) {
          if (!(error instanceof Error)) throw error;
          throw new CheckFailure(`scenario ${n}, ${nameScenario(scenario)}: ${error.message}`);
        }
      }
      return `${SCENARIOS} scenarios`;
    },
  },
];
