import { argumentError } from "../checks/check-tensor.js";
import { CONFIG_FIELDS, configError, type ResolvedConfig } from "../config.js";
import { MoeA2AError } from "../errors.js";
import type { Group } from "../group/group.js";
import { type Channel, type GroupInternals, groupInternalsOf } from "../group/internals.js";
import { describe } from "../tensor.js";

/** What ranks have to agree on at create. */
export interface Introduction {
  readonly config: ResolvedConfig;
  /** Number of the first round. */
  readonly firstRound: number;
}

/** Leaves room to count on: beyond 2^53 a round number would not change any more. */
const MAX_FIRST_ROUND = 2 ** 48;

/** @throws ERR_MOE_A2A_ARGUMENT */
export function checkFirstRound(rank: number, given: unknown): number {
  const firstRound = given ?? 0;
  if (
    Number.isInteger(firstRound) &&
    (firstRound as number) >= 0 &&
    (firstRound as number) <= MAX_FIRST_ROUND
  )
    return firstRound as number;
  throw argumentError(
    rank,
    "options.firstRound",
    `is ${describe(firstRound)}; it must be an integer from 0 to ${MAX_FIRST_ROUND}`,
  );
}

/**
 * What backends need of a group of `config.epSize` ranks.
 *
 * @throws ERR_MOE_A2A_ARGUMENT for something else than such a group, ERR_MOE_A2A_CONFIG for one of another size
 */
export function checkGroup(backend: string, group: Group, config: ResolvedConfig): GroupInternals {
  const internals = typeof group === "object" && group !== null ? groupInternalsOf(group) : undefined;
  if (!internals) {
    throw new MoeA2AError(
      "ERR_MOE_A2A_ARGUMENT",
      `create(): the group is ${describe(group)}; the ${backend} backend takes one of createLocalGroup(), joinThreadGroup() or joinProcessGroup()`,
      { argument: "group" },
    );
  }
  if (group.size !== config.epSize) {
    throw configError(
      "epSize",
      config.epSize,
      `the group has ${group.size} ranks, and epSize must be that number`,
      group.rank,
    );
  }
  return internals;
}

/** As far as {@link checkSame} reads it. */
function isIntroduction(value: unknown): boolean {
  const { config } = (value ?? {}) as Partial<Introduction>;
  return typeof config === "object" && config !== null;
}

/**
 * Tells the other ranks who is there, and waits for them; instances pair by order of creation.
 *
 * @returns the instance's number in its group, what every rank said, and where ranks share no memory a channel
 * @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT naming who did not come; ERR_MOE_A2A_CONFIG where configs differ
 */
export async function introduce<T extends Introduction>(
  group: GroupInternals,
  rank: number,
  mine: T,
): Promise<{
  readonly instance: number;
  readonly introductions: readonly T[];
  readonly channel: Channel | undefined;
}> {
  const { epSize, timeoutMs } = mine.config;
  const ranks = Array.from({ length: epSize }, (_, r) => r);
  // What the others have given up on may not have been read yet.
  if (group.afterCatchingUp) await new Promise<void>(group.afterCatchingUp);
  let instance = group.nextInstance();
  // Where others have given up on a creation that this rank missed, it meets them at their next one.
  while (group.gatherings.failure(`create:${instance}`, ranks)) instance = group.nextInstance();
  // Before the others know that this rank is there: they may send as soon as they do.
  const channel = group.openChannel?.(instance);
  try {
    const introductions = await group.gatherings.gather<T>(`create:${instance}`, mine, {
      timeoutMs,
      phase: "create",
      isValid: isIntroduction,
      where: "create",
    });
    checkSame(introductions, rank);
    return { instance, introductions, channel };
  } catch (error) {
    channel?.close();
    throw error;
  }
}

/** @throws ERR_MOE_A2A_CONFIG where ranks were created with different configs */
function checkSame(introductions: readonly Introduction[], rank: number): void {
  const read = [
    ...CONFIG_FIELDS.map((field) => [field, "config", (i: Introduction) => i.config[field]] as const),
    ["firstRound", "options", (i: Introduction) => i.firstRound] as const,
  ];
  for (const [field, holder, of] of read) {
    const values = introductions.map(of);
    if (values.every((value) => value === values[0])) continue;
    const list = values.map((value, r) => `rank ${r}: ${describe(value)}`).join(", ");
    throw new MoeA2AError(
      "ERR_MOE_A2A_CONFIG",
      `ranks were created with different configs: ${holder}.${field} differs (${list}); it has to be equal on all ranks`,
      { field, value: values[rank] },
    );
  }
}
