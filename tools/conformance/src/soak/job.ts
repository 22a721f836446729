import { type Group, joinProcessGroup, joinThreadGroup } from "@moe-a2a/core";
import { type BackendUnderTest, canBlock, loadBackend } from "../backends.js";
import type { Place } from "../rank-host.js";
import { cycles } from "./cycles.js";
import { growth, type MemorySample, sampleMemory } from "./memory.js";
import { soakConfig } from "./plan.js";
import { type ReplayResult, soakReplays } from "./replays.js";
import { Soak, type SoakResult } from "./rounds.js";

/** What a rank is asked to do. */
export interface SoakJob {
  readonly rank: number;
  readonly place: SoakPlace;
  readonly backend: string;
  readonly rounds: number;
  readonly replays: number;
  /** Instances that are made and closed, one after another. */
  readonly cycles: number;
  readonly seconds: number;
  readonly seed: number;
}

export type SoakPlace =
  | Pick<Extract<Place, { kind: "threads" }>, "kind" | "ticket">
  | Extract<Place, { kind: "processes" }>;

export type SoakMessage =
  | {
      readonly rank: number;
      readonly rounds: SoakResult;
      readonly replays?: ReplayResult;
      readonly cycles: number;
      /** Once warm, now and then in the rounds, after them, and after the cycles; of the whole process. */
      readonly memory: readonly MemorySample[];
    }
  | { readonly rank: number; readonly failure: string };

async function join(place: SoakPlace): Promise<Group> {
  return place.kind === "threads" ? joinThreadGroup(place.ticket) : joinProcessGroup(place.options);
}

/** Samples of the process that a rank lives in, and what grew between them. */
class Memory {
  readonly samples: MemorySample[] = [];
  readonly #target: BackendUnderTest;
  readonly #looks: boolean;

  /** @param looks one rank looks at the whole process */
  constructor(target: BackendUnderTest, looks: boolean) {
    this.#target = target;
    this.#looks = looks;
  }

  async measure(): Promise<void> {
    if (this.#looks) this.samples.push(await sampleMemory(this.#target));
  }

  /** @throws where more is in use than in the first sample */
  checkFlat(): void {
    const [before, after] = [this.samples[0], this.samples.at(-1)];
    const grown = before && after ? growth(before, after) : undefined;
    if (grown) throw new Error(`memory is not flat: ${grown}`);
  }
}

/** One rank's part of a soak. */
export async function runSoak(job: SoakJob): Promise<SoakMessage> {
  const { place, seed } = job;
  const group = await join(place);
  const { rank, size } = group;
  const target = await loadBackend(job.backend);
  const a2a = await target.backend.create(soakConfig(size), group, target.placement(rank));
  const memory = new Memory(target, place.kind === "processes" || rank === 0);
  const soak = new Soak(a2a, target, seed, canBlock(target, place.kind));
  const rounds = await soak.run(group, { ...job, measure: () => memory.measure() });
  memory.checkFlat();
  const replays =
    job.replays > 0 && target.cuda ? await soakReplays(a2a, target, group, job.replays, seed) : undefined;
  if (job.cycles > 0) {
    await cycles(group, target, job.cycles, seed);
    await memory.measure();
    memory.checkFlat();
  }
  await group.exchange("done", new Uint8Array());
  await a2a.close();
  await group.close();
  return { rank, rounds, cycles: job.cycles, memory: memory.samples, ...(replays ? { replays } : {}) };
}
