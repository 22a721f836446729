import { type Group, joinProcessGroup, joinThreadGroup } from "@moe-a2a/core";
import { loadBackend } from "./backends.js";
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
