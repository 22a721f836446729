import type { Case, MadeCase, RankCase } from "../case.js";
import { scenarioCase } from "../faults/play.js";
import { randomFaults } from "../faults/random-faults.js";
import { waits } from "../faults/waits.js";
import { properties } from "../properties.js";
import { worldCase } from "../world.js";
import { aborts } from "./aborts.js";
import { badInputs } from "./arguments.js";
import { badOutputs } from "./arguments-of-combine.js";
import { combine } from "./combine.js";
import { creation } from "./creation.js";
import { cudaGraphs } from "./cuda-graphs.js";
import { cudaMappings } from "./cuda-mappings.js";
import { cudaStreams } from "./cuda-streams.js";
import { cudaTimes } from "./cuda-times.js";
import { departures } from "./departures.js";
import { determinism } from "./determinism.js";
import { disagreement } from "./disagreement.js";
import { experts } from "./experts.js";
import { faults } from "./faults.js";
import { ids } from "./ids.js";
import { membership } from "./membership.js";
import { resets } from "./resets.js";
import { manyRounds } from "./rounds.js";
import { rows } from "./rows.js";
import { shapes } from "./shapes.js";
import { signals } from "./signals.js";
import { state } from "./state.js";
import { statistics } from "./stats.js";
import { zeroTokens } from "./zero.js";

const rankCases: readonly RankCase[] = [
  ...shapes,
  ...zeroTokens,
  ...experts,
  ...rows,
  ...ids,
  ...combine,
  ...statistics,
  ...membership,
  ...manyRounds,
  ...disagreement,
  ...resets,
  ...faults,
  ...waits,
  ...aborts,
  ...departures,
  ...creation,
  ...badInputs,
  ...badOutputs,
  ...state,
  ...determinism,
  ...signals,
  ...cudaStreams,
  ...cudaGraphs,
  ...cudaMappings,
  ...cudaTimes,
];

const byName = new Map(rankCases.map((c) => [c.name, c]));
if (byName.size !== rankCases.length) {
  const twice = rankCases.filter((c) => byName.get(c.name) !== c).map((c) => c.name);
  throw new Error(`cases need names of their own: ${twice.join("; ")}`);
}

/** Every case of the suite. */
export const cases: readonly Case[] = [...rankCases, ...properties, ...randomFaults];

/** The case that a name, a world or a scenario stands for, also in another thread. */
export function rankCase(id: string | MadeCase): RankCase {
  if (typeof id !== "string") return "world" in id ? worldCase(id.world) : scenarioCase(id.scenario);
  const found = byName.get(id);
  if (!found) throw new Error(`there is no case named "${id}"`);
  return found;
}
