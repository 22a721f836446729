import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import {
  type Combine,
  type CpuTensor,
  createLocalGroup,
  createThreadGroup,
  type Dispatch,
  type DispatchInput,
  type Group,
  joinProcessGroup,
  joinThreadGroup,
  type MoeAllToAll,
  oracleCombine,
  oracleDispatch,
  tensor,
} from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import type { MoeA2ADispatcher } from "@moe-a2a/sglang";
import { PLACE, SECRET } from "./words.js";

/** Where ranks live; all on this thread, but for a rank of `lost`, whose thread has ended. */
export const WORLDS = ["local", "threads", "processes", "lost"] as const;
export type WorldKind = (typeof WORLDS)[number];

export const HIDDEN = 4;
const TOP_K = 2;

export const CONFIG = {
  epSize: 2,
  numExperts: 4,
  topK: TOP_K,
  maxTokensPerRank: 2,
  // A dispatcher's hidden states, ids and weights.
  maxDispatchBytesPerToken: HIDDEN * 4 + TOP_K * 8,
  maxCombineBytesPerToken: HIDDEN * 4,
  maxExpertStats: 2,
  timeoutMs: 60,
  roundsInFlight: 2,
} as const;

/** A valid dispatch of a rank. Rank 1 has one token less. */
export function inputOf(rank: number): DispatchInput<CpuTensor> & { numLocalTokens: number } {
  const tokens = 2 - rank;
  const ids = tensor("int32", [tokens, TOP_K], rank === 0 ? [0, 2, 3, -1] : [3, 1]);
  const rows = tensor(
    "float32",
    [tokens, HIDDEN],
    Array.from({ length: tokens * HIDDEN }, (_, i) => rank * 100 + i + 0.5),
  );
  return {
    numLocalTokens: tokens,
    tokenSelectedExperts: ids,
    payloads: [rows, ids],
    runtimeMaxTokensPerRank: 2,
    expertIdPayloadIndex: 1,
    invalidTokenExpertId: -7,
    expertStats: tensor("int32", [2], [rank, 7]),
  };
}

/** The rows as an expert hands them on: twice what it received. */
const doubled = (rows: CpuTensor): CpuTensor<"float32"> =>
  tensor(
    "float32",
    rows.shape,
    Float32Array.from(rows.data as Float32Array, (x) => 2 * x),
  );

/** What an exact round over `ranks` brings, by rank. */
function expectedRound(ranks: readonly number[]) {
  const inputs = [0, 1].map((rank) => {
    if (!ranks.includes(rank)) return undefined;
    const { tokenSelectedExperts, payloads, expertIdPayloadIndex, invalidTokenExpertId, expertStats } =
      inputOf(rank);
    return { tokenSelectedExperts, payloads, expertIdPayloadIndex, invalidTokenExpertId, expertStats };
  });
  const dispatched = oracleDispatch({
    config: CONFIG,
    activeRanks: ranks,
    runtimeMaxTokensPerRank: 2,
    inputs,
  });
  const expertOutputs = dispatched.map((d) => d && doubled(d.recv[0]!));
  return { dispatched, outputs: oracleCombine({ dispatched, expertOutputs }) };
}
const expected = { both: expectedRound([0, 1]), alone: expectedRound([0]) };

/** Groups and instances under test, and every handle that calls have returned. */
export class World {
  readonly kind: WorldKind;
  readonly groups: readonly Group[];
  readonly a2as: readonly MoeAllToAll<CpuTensor>[];
  readonly dispatches: Dispatch<CpuTensor>[] = [];
  readonly combines: Combine<CpuTensor>[] = [];
  /** By rank, as far as a case has made them. */
  readonly dispatchers: MoeA2ADispatcher<CpuTensor>[] = [];
  /** What a getter may run on the dispatcher. */
  dispatcherCall: () => unknown = () => undefined;
  /** Whether a getter or hook has done something to the instances in this case. */
  acted = false;
  /** The tensors of the call that is being made. */
  arrays: ArrayBufferView[] = [];
  readonly #dispose: () => unknown;
  #round: readonly Dispatch<CpuTensor>[] | undefined;

  private constructor(
    kind: WorldKind,
    groups: readonly Group[],
    a2as: readonly MoeAllToAll<CpuTensor>[],
    dispose: () => unknown,
  ) {
    this.kind = kind;
    this.groups = groups;
    this.a2as = a2as;
    this.#dispose = dispose;
  }

  static async make(kind: WorldKind): Promise<World> {
    if (kind === "lost") return World.#lost();
    let dispose: () => unknown = () => {};
    let groups: Group[];
    if (kind === "local") groups = createLocalGroup(2);
    else if (kind === "threads") groups = createThreadGroup(2).map(joinThreadGroup);
    else {
      const folder = mkdtempSync(join(tmpdir(), PLACE));
      dispose = () => rmSync(folder, { recursive: true, force: true });
      const options = {
        size: 2,
        address: `unix:${folder}/group`,
        secret: SECRET,
      };
      groups = await Promise.all([0, 1].map((rank) => joinProcessGroup({ ...options, rank })));
    }
    // readySync() blocks the one thread for so long.
    const config = { ...CONFIG, timeoutMs: kind === "threads" ? 300 : 5_000 };
    const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
    return new World(kind, groups, a2as, dispose);
  }

  /** Rank 0 goes on alone: the thread of rank 1 was torn down in the middle of a round. */
  static async #lost(): Promise<World> {
    const [mine, theirs] = createThreadGroup(2);
    const worker = new Worker(new URL("./surface/lost-rank.js", import.meta.url), {
      workerData: { ticket: theirs, config: { ...CONFIG, timeoutMs: 5_000 } },
    });
    const told = once(worker, "message");
    const group = joinThreadGroup(mine!);
    const a2a = await jsBackend.create({ ...CONFIG, timeoutMs: 5_000 }, group);
    await told;
    await worker.terminate();
    const failed = a2a.dispatch(inputOf(0));
    // Its dispatch was sent; it is missed in the combine, or by reset().
    await failed.ready().catch(() => {});
    await a2a.reset({ activeRanks: [0] });
    return new World("lost", [group], [a2a], () => {});
  }

  get ranks(): readonly number[] {
    return this.a2as.map((_, rank) => rank);
  }

  dispatch(rank: number): Dispatch<CpuTensor> {
    return this.a2as[rank]!.dispatch(inputOf(rank));
  }

  expertOutput(): CpuTensor {
    return tensor("float32", [2, 2, HIDDEN]);
  }

  /** Transfers away whatever the call under way was given. */
  detach(): void {
    for (const { buffer } of this.arrays) {
      if (!(buffer instanceof ArrayBuffer)) continue;
      try {
        structuredClone(buffer, { transfer: [buffer] });
      } catch {}
    }
  }

  /** Starts a case on what is there. */
  begin(): void {
    this.dispatches.length = 0;
    this.combines.length = 0;
    this.dispatchers.length = 0;
    this.#round = undefined;
    this.dispatcherCall = () => undefined;
    this.acted = false;
  }

  /** Plays the first half of a round on all ranks, which has to be exact; what it shows is for the case. */
  async prepare(): Promise<void> {
    const rounds = this.a2as.map((a2a, rank) => a2a.dispatch(inputOf(rank)));
    await Promise.all(rounds.map((round) => round.ready()));
    const { dispatched } = this.#expected;
    for (const [rank, round] of rounds.entries()) {
      const { recv, recvCounts, expertStats } = dispatched[rank]!;
      assert.deepEqual([...round.recvCounts.data], [...recvCounts.data], `counts of rank ${rank}`);
      assert.deepEqual([...round.recv[1]!.data], [...recv[1]!.data], `ids of rank ${rank}`);
      assert.deepEqual([...round.expertStats!.data], [...expertStats!.data], `statistics of rank ${rank}`);
      for (const [source, count] of recvCounts.data.entries()) {
        const [from, to] = [source * 2 * HIDDEN, (source * 2 + count) * HIDDEN];
        const rows = [round.recv[0]!, recv[0]!].map(({ data }) => [...data.subarray(from, to)]);
        assert.deepEqual(rows[0], rows[1], `rows of rank ${rank} from rank ${source}`);
      }
    }
    this.dispatches.push(...rounds);
    this.#round = rounds;
  }

  /** Plays the second half of what {@link prepare} has begun. */
  async finish(): Promise<void> {
    const rounds = this.#round;
    if (!rounds) return;
    this.#round = undefined;
    const combines = rounds.map((round) => round.combine(doubled(round.recv[0]!)));
    await Promise.all(combines.map((combine) => combine.ready()));
    for (const [rank, { output }] of combines.entries()) {
      assert.deepEqual([...output.data], [...this.#expected.outputs[rank]!.data], `output of rank ${rank}`);
    }
    this.combines.push(...combines);
  }

  get #expected() {
    return this.kind === "lost" ? expected.alone : expected.both;
  }

  async exactRound(): Promise<void> {
    await this.prepare();
    await this.finish();
  }

  /** Brings all ranks together again; false where one has left for good. */
  async reset(): Promise<boolean> {
    const closed = this.a2as.some((a2a) => {
      try {
        a2a.empty("uint8", [0]);
        return false;
      } catch {
        return true;
      }
    });
    if (closed) return false;
    const alone = { activeRanks: this.ranks, timeoutMs: 2_000 };
    // A reset that a case has begun may still wait for the others.
    for (let attempt = 0; attempt < 4; attempt++) {
      const results = await Promise.allSettled(this.a2as.map((a2a) => a2a.reset(alone)));
      const failed = results.find((result) => result.status === "rejected");
      if (!failed) return true;
      const { kind, state } = failed.reason as { kind?: string; state?: string };
      if (kind === "closed" || kind === "lost" || state === "closed") return false;
      if (attempt === 3) throw failed.reason;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return false;
  }

  async dispose(): Promise<void> {
    await Promise.all(this.a2as.map((a2a) => a2a.close()));
    await Promise.all(this.groups.map((group) => group.close()));
    this.#dispose();
  }
}
