import {
  type CpuTensor,
  type Dispatch,
  type Group,
  type MoeAllToAll,
  type OracleInput,
  oracleCombine,
  oracleDispatch,
  type Tensor,
} from "@moe-a2a/core";
import type { BackendUnderTest } from "../backends.js";
import { same, sameBytes, sameOutput, sameRows } from "../check.js";
import { firstRows } from "../round.js";
import { ID_PAYLOAD, makeVariants, type SoakRound, soakRounds } from "./plan.js";

/** Rounds between two looks at the others. */
const STRIDE = 250;
/** Looks at memory between the first rounds and the last. */
const LOOKS = 6;
/** One round in so many is compared byte for byte. A prime, so that it meets every lane and pattern. */
const VERIFY = 61;

export interface SoakOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly seed: number;
  /** Called once the instance is warm, now and then after that, and at the end. */
  measure(): Promise<void>;
}

export interface SoakResult {
  readonly rounds: number;
  readonly verified: number;
  /** Times that this rank took part without a token. */
  readonly zeros: number;
  readonly seconds: number;
}

interface Uploaded {
  readonly ids: Tensor;
  readonly payloads: readonly Tensor[];
  readonly stats: Tensor;
}

function firstTokens(input: OracleInput, rows: number, { stats, invalidId }: SoakRound): OracleInput {
  return {
    tokenSelectedExperts: firstRows(input.tokenSelectedExperts, rows),
    payloads: input.payloads.map((p) => firstRows(p, rows)),
    ...(stats ? { expertStats: input.expertStats } : {}),
    expertIdPayloadIndex: ID_PAYLOAD,
    invalidTokenExpertId: invalidId,
  };
}

/** Random rounds, one after another, as fast as they go. */
export class Soak {
  readonly #a2a: MoeAllToAll;
  readonly #target: BackendUnderTest;
  readonly #canBlock: boolean;
  readonly #variants;
  readonly #uploaded: Uploaded[] = [];
  #verified = 0;

  constructor(a2a: MoeAllToAll, target: BackendUnderTest, seed: number, canBlock: boolean) {
    this.#a2a = a2a;
    this.#target = target;
    this.#canBlock = canBlock;
    this.#variants = makeVariants(a2a.config, seed);
  }

  async #upload(): Promise<void> {
    const upload = async (host: CpuTensor): Promise<Tensor> => {
      const t = this.#a2a.empty(host.dtype, host.shape);
      await this.#a2a.write(t, host.data);
      return t;
    };
    for (const { inputs } of this.#variants) {
      const own = inputs[this.#a2a.epRank]!;
      this.#uploaded.push({
        ids: await upload(own.tokenSelectedExperts),
        payloads: await Promise.all(own.payloads.map(upload)),
        stats: await upload(own.expertStats!),
      });
    }
  }

  async run(group: Group, options: SoakOptions): Promise<SoakResult> {
    await this.#upload();
    const { epSize: R } = this.#a2a.config;
    const rank = this.#a2a.epRank;
    const plan = soakRounds(R, this.#variants.length, options.seed);
    const warm = Math.min(20_000, Math.floor(options.rounds / 10));
    // On the way, too: what settles late looks otherwise than what grows with every round.
    const looks = Math.ceil((options.rounds - warm) / LOOKS);
    const start = performance.now();
    const elapsed = () => (performance.now() - start) / 1000;
    let zeros = 0;
    let played = 0;
    while (played < options.rounds) {
      const round = plan.next().value;
      if (round.counts[rank] === 0) zeros++;
      try {
        await this.#play(round, played);
      } catch (error) {
        throw new Error(`round ${played} (${JSON.stringify(round)})`, { cause: error });
      }
      played++;
      if (played >= warm && (played - warm) % looks === 0 && played < options.rounds) await options.measure();
      if (played % STRIDE > 0) continue;
      // All stop at the same round; one that is out of time says so for all.
      const votes = await group.exchange("soak", new Uint8Array([Number(elapsed() > options.seconds)]));
      if (votes.some((vote) => vote[0] === 1)) break;
    }
    await options.measure();
    return { rounds: played, verified: this.#verified, zeros, seconds: elapsed() };
  }

  async #play(round: SoakRound, index: number): Promise<void> {
    const a2a = this.#a2a;
    const rank = a2a.epRank;
    const { counts, slots, variant } = round;
    const { ids, payloads, stats } = this.#uploaded[variant]!;
    const count = counts[rank]!;
    const dispatch = a2a.dispatch({
      numLocalTokens: count,
      tokenSelectedExperts: firstRows(ids, count),
      payloads: payloads.map((p) => firstRows(p, count)),
      runtimeMaxTokensPerRank: slots,
      expertIdPayloadIndex: ID_PAYLOAD,
      invalidTokenExpertId: round.invalidId,
      ...(round.stats ? { expertStats: stats } : {}),
    });
    const verify = index % VERIFY === 0;
    const wait = verify || this.#target.traits.gatedByReady || (round.waits >>> rank) % 2 === 1;
    if (wait) await this.#settle(dispatch);
    const expected = verify ? await this.#compareReceived(dispatch, round) : undefined;
    // The simplest experts: what was received goes back.
    const combine = dispatch.combine(dispatch.recv[0]!);
    // Both ways of waiting; now and then the event loop gets a turn.
    if (index % 16 === 0) await combine.ready();
    else await this.#settle(combine);
    await this.#compareReport(dispatch, round);
    if (expected) {
      sameOutput("output", await a2a.read(combine.output), expected);
      this.#verified++;
    }
  }

  /** Waits for a phase, blocking where that can be. */
  async #settle<R>(phase: { ready(): Promise<R>; readySync(): R }): Promise<R> {
    return this.#canBlock ? phase.readySync() : phase.ready();
  }

  /** What a look at the tables tells, without an oracle. */
  async #compareReport(dispatch: Dispatch, { variant, counts }: SoakRound): Promise<void> {
    const { epSize: R } = this.#a2a.config;
    const rank = this.#a2a.epRank;
    const { sent } = this.#variants[variant]!;
    let out = 0;
    let back = 0;
    for (let peer = 0; peer < R; peer++) {
      out += sent[rank]![counts[rank]! * R + peer]!;
      back += sent[peer]![counts[peer]! * R + rank]!;
    }
    const { tokensSent, tokensReceived } = await this.#settle(dispatch);
    same("report.tokensSent", tokensSent, out);
    same("report.tokensReceived", tokensReceived, back);
  }

  /** Compares all that arrived, and returns what the combine has to come to. */
  async #compareReceived(dispatch: Dispatch, round: SoakRound): Promise<CpuTensor> {
    const a2a = this.#a2a;
    const { inputs } = this.#variants[round.variant]!;
    const dispatched = oracleDispatch({
      config: a2a.config,
      runtimeMaxTokensPerRank: round.slots,
      inputs: inputs.map((input, r) => firstTokens(input, round.counts[r]!, round)),
    });
    const expected = dispatched[a2a.epRank]!;
    sameBytes("recvCounts", await a2a.read(dispatch.recvCounts), expected.recvCounts.data);
    for (const [p, rows] of expected.recv.entries()) {
      const received = await a2a.read(dispatch.recv[p]!);
      sameRows(`recv[${p}]`, received, rows, expected.recvCounts.data, p === ID_PAYLOAD);
    }
    if (expected.expertStats) {
      sameBytes("expertStats", await a2a.read(dispatch.expertStats!), expected.expertStats.data);
    }
    const expertOutputs = dispatched.map((d) => d!.recv[0]!);
    return oracleCombine({ dispatched, expertOutputs })[a2a.epRank]!;
  }
}
