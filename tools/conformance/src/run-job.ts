import { createLocalGroup, type Group, joinProcessGroup, joinThreadGroup } from "@moe-a2a/core";
import { type BackendUnderTest, loadBackend } from "./backends.js";
import { rankCase } from "./cases/index.js";
import { type Host, type RankResult, RankRun, RoundStore } from "./rank.js";
import { endedResult, type Job, type Place } from "./rank-host.js";

async function join(place: Place): Promise<Group> {
  return place.kind === "threads" ? joinThreadGroup(place.ticket) : joinProcessGroup(place.options);
}

/** Joins in the place of another rank of the group. */
function rejoin(place: Place, rank: number, timeoutMs: number): Promise<Group> {
  return place.kind === "threads"
    ? join({ ...place, ticket: { ...place.ticket, rank } })
    : join({ ...place, options: { ...place.options, rank, timeoutMs } });
}

let isWarm = false;

async function warmUp({ backend, placement }: BackendUnderTest, rank: number): Promise<void> {
  if (isWarm) return;
  isWarm = true;
  const [group] = createLocalGroup(1) as [Group];
  const config = {
    epSize: 1,
    numExperts: 1,
    topK: 1,
    maxTokensPerRank: 1,
    maxDispatchBytesPerToken: 4,
    maxCombineBytesPerToken: 4,
  };
  const a2a = await backend.create(config, group, placement(rank));
  await a2a.close();
  await group.close();
}

/** One rank of one case. */
export async function runJob(job: Job, host: Host): Promise<RankResult> {
  const { seed, jitterMs, place } = job;
  let group: Group;
  host.note("joining its group");
  try {
    group = await join(place);
  } catch (error) {
    return { ...endedResult(job.rank, "group", `: ${error}`), ended: false };
  }
  host.note("loading the backend");
  const target = await loadBackend(job.backend);
  // The first instance of a process makes it known to its GPU, which takes longer than the time limits of most cases.
  if (place.kind === "processes") await warmUp(target, job.rank);
  const run = {
    target,
    kind: place.kind,
    case: rankCase(job.case),
    seed,
    jitterMs,
    rejoin: (rank: number, timeoutMs: number) => rejoin(place, rank, timeoutMs),
  };
  const result = await new RankRun(run, group, new RoundStore(1), host).execute();
  // Rejections nobody handles end the host in the meantime, which is this case's failure.
  await new Promise(setImmediate);
  return result;
}
