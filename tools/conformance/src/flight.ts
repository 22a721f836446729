import type {
  Combine,
  CombineDType,
  CpuTensor,
  Dispatch,
  DispatchInput,
  DispatchReport,
  DType,
  MoeAllToAll,
  OracleDispatch,
  Tensor,
} from "@moe-a2a/core";
import type { BackendUnderTest } from "./backends.js";
import { allNaN, check, same, sameBytes, sameOutput, sameRows, throws } from "./check.js";
import type { Round } from "./round.js";

/** How a rank plays a round. None of it changes results, nor has to be the same on all ranks. */
export interface PlayOptions {
  readonly lane?: 0 | 1;
  /** Where inputs and outputs lie: in memory from `empty()` (default), or in memory that is not the backend's. */
  readonly memory?: "empty" | "foreign";
  /** Elements by which foreign memory is misaligned. Default 1. */
  readonly offset?: number;
  /** Writes expert output into `combineBuffer()`. */
  readonly inPlace?: boolean;
  /** Passes an `out` of the output's dtype, also where the spec has none. */
  readonly out?: boolean;
  /** Waits with `readySync()`. */
  readonly sync?: boolean;
  /** The round's input where it was uploaded before. */
  readonly input?: DispatchInput;
}

/** One rank's passage through one round, step by step, each compared with the oracle. */
export class Flight {
  readonly dispatch: Dispatch;
  report: DispatchReport | undefined;
  combine: Combine | undefined;
  out: Tensor | undefined;
  readonly #a2a: MoeAllToAll;
  readonly #round: Round;
  readonly #target: BackendUnderTest;
  readonly #options: PlayOptions;

  private constructor(
    a2a: MoeAllToAll,
    round: Round,
    target: BackendUnderTest,
    options: PlayOptions,
    input: DispatchInput,
  ) {
    this.#a2a = a2a;
    this.#round = round;
    this.#target = target;
    this.#options = options;
    this.dispatch = a2a.dispatch(input);
  }

  /** Uploads this rank's input and dispatches. */
  static async launch(a2a: MoeAllToAll, round: Round, target: BackendUnderTest, options: PlayOptions = {}) {
    const input = options.input ?? (await Flight.input(a2a, round, target, options));
    return new Flight(a2a, round, target, options, input);
  }

  /** This rank's input, uploaded. */
  static async input(
    a2a: MoeAllToAll,
    round: Round,
    target: BackendUnderTest,
    options: PlayOptions = {},
  ): Promise<DispatchInput> {
    const upload = (host: CpuTensor) => uploaded(a2a, target, host, options);
    const { tokenSelectedExperts, payloads, expertStats, ...rest } = round.inputs[a2a.epRank]!;
    const { expertIdPayloadIndex, invalidTokenExpertId } = rest;
    return {
      numLocalTokens: tokenSelectedExperts.shape[0]!,
      tokenSelectedExperts: await upload(tokenSelectedExperts),
      payloads: await Promise.all(payloads.map(upload)),
      ...(round.slots === a2a.config.maxTokensPerRank ? {} : { runtimeMaxTokensPerRank: round.slots }),
      ...(expertIdPayloadIndex === undefined ? {} : { expertIdPayloadIndex }),
      ...(invalidTokenExpertId === undefined ? {} : { invalidTokenExpertId }),
      ...(expertStats ? { expertStats: await upload(expertStats) } : {}),
      ...(options.lane === undefined ? {} : { lane: options.lane }),
    };
  }

  get #expected(): OracleDispatch {
    return this.#round.dispatched[this.#a2a.epRank]!;
  }

  /** Waits until the dispatch has arrived, and compares what it brought. */
  async arrive(): Promise<DispatchReport> {
    const { dispatch } = this;
    const report = this.#options.sync ? dispatch.readySync() : await dispatch.ready();
    this.report = report;
    const expected = this.#expected;
    const { tokensSent, tokensReceived, droppedEntries } = report;
    same(
      "report",
      { tokensSent, tokensReceived, droppedEntries },
      {
        tokensSent: expected.tokensSent,
        tokensReceived: expected.tokensReceived,
        droppedEntries: expected.droppedEntries,
      },
    );
    same("report.waitMs: one per rank", report.waitMs.length, this.#a2a.config.epSize);
    check(
      report.waitMs.every((ms) => Number.isFinite(ms) && ms >= 0),
      `report.waitMs holds ${report.waitMs}`,
    );
    same("report.waitMs of this rank itself", report.waitMs[this.#a2a.epRank], 0);
    await this.compareReceived();
    return report;
  }

  /** Compares recvCounts, received rows and statistics. */
  async compareReceived(): Promise<void> {
    const { dispatch } = this;
    const expected = this.#expected;
    const a2a = this.#a2a;
    this.#form("recvCounts", dispatch.recvCounts, expected.recvCounts);
    sameBytes("recvCounts", await a2a.read(dispatch.recvCounts), expected.recvCounts.data);
    same("payloads received", dispatch.recv.length, expected.recv.length);
    const idPayload = this.#round.inputs[a2a.epRank]!.expertIdPayloadIndex;
    for (const [p, rows] of expected.recv.entries()) {
      const received = dispatch.recv[p]!;
      this.#form(`recv[${p}]`, received, rows);
      sameRows(`recv[${p}]`, await a2a.read(received), rows, expected.recvCounts.data, p === idPayload);
    }
    const stats = dispatch.expertStats;
    if (expected.expertStats) {
      check(stats, "expertStats are missing");
      this.#form("expertStats", stats, expected.expertStats);
      sameBytes("expertStats", await a2a.read(stats), expected.expertStats.data);
    } else same("expertStats", stats, undefined);
  }

  /** Compares once more what arrived, after the combine was offered: where it has to be there until that is ready. */
  async compareStillThere(): Promise<void> {
    if (this.#target.traits.gatedByReady) await this.compareReceived();
  }

  /**
   * Checks that a failed dispatch shows nothing, or no more than an empty round would.
   *
   * @param options.late peers may still be sending when this rank has failed: their rows may lie where they belong
   */
  async expectNothing({ late = false } = {}): Promise<void> {
    const { dispatch } = this;
    if (this.#target.traits.gatedByReady) {
      const says = ["failed"];
      throws("recv of a failed dispatch", () => dispatch.recv, "ERR_MOE_A2A_STATE", { says });
      throws("recvCounts of a failed dispatch", () => dispatch.recvCounts, "ERR_MOE_A2A_STATE", { says });
      return;
    }
    const all = async (what: string, t: Tensor, value: number, sent?: ArrayLike<unknown>) => {
      const data = (await this.#a2a.read(t)) as Int32Array;
      const at = data.findIndex((x, i) => x !== value && x !== sent?.[i]);
      check(at < 0, `${what} of a failed dispatch, element ${at}: expected ${value}, got ${data[at]}`);
    };
    await all("recvCounts", dispatch.recvCounts, 0);
    if (dispatch.expertStats) await all("expertStats", dispatch.expertStats, 0);
    const { expertIdPayloadIndex: ids, invalidTokenExpertId = -1 } = this.#round.inputs[this.#a2a.epRank]!;
    if (ids === undefined) return;
    const sent = late ? this.#expected.recv[ids]!.data : undefined;
    await all("the named id payload", dispatch.recv[ids]!, invalidTokenExpertId, sent);
  }

  /** Runs the experts and starts the combine. */
  async offer(): Promise<void> {
    const a2a = this.#a2a;
    const host = this.#round.expertOutputs[a2a.epRank]!;
    let rows: Tensor;
    if (this.#options.inPlace) {
      rows = this.dispatch.combineBuffer(this.#round.spec.hidden, host.dtype);
      this.#form("combineBuffer", rows, host);
      await a2a.write(rows, host.data);
    } else rows = await uploaded(a2a, this.#target, host, this.#options);
    const expected = this.#round.outputs[a2a.epRank]!;
    if (this.#options.out || this.#round.spec.outDtypes?.[a2a.epRank]) {
      this.out = allocated(a2a, this.#target, expected.dtype, expected.shape, this.#options);
    }
    this.combine = this.dispatch.combine(rows, this.out ? { out: this.out } : undefined);
  }

  /** Waits for the combine, and compares the rows that come back. */
  async finish(): Promise<void> {
    const combine = this.combine!;
    if (this.#options.sync) combine.readySync();
    else await combine.ready();
    await this.compareOutput();
  }

  async compareOutput(): Promise<void> {
    const combine = this.combine!;
    const expected = this.#round.outputs[this.#a2a.epRank]!;
    this.#form("output", combine.output, expected);
    sameOutput("output", await this.#a2a.read(combine.output), expected);
    if (this.out) sameOutput("out", await this.#a2a.read(this.out), expected);
  }

  /** Checks that a failed combine left NaN in the caller's `out`. */
  async expectNaN(): Promise<void> {
    allNaN("out of a failed combine", await this.#a2a.read(this.out!), this.out!.dtype as CombineDType);
  }

  /** The rest of a round whose dispatch is under way. */
  async complete(): Promise<void> {
    await this.arrive();
    await this.offer();
    await this.finish();
  }

  #form(what: string, actual: Tensor, expected: CpuTensor): void {
    same(`${what}: dtype`, actual.dtype, expected.dtype);
    same(`${what}: shape`, [...actual.shape], [...expected.shape]);
    same(`${what}: device`, actual.device.type, this.#target.device);
  }
}

function allocated(
  a2a: MoeAllToAll,
  target: BackendUnderTest,
  dtype: DType,
  shape: readonly number[],
  { memory = "empty", offset = 1 }: PlayOptions,
): Tensor {
  return memory === "empty" ? a2a.empty(dtype, shape) : target.foreign(a2a, dtype, shape, offset);
}

async function uploaded(
  a2a: MoeAllToAll,
  target: BackendUnderTest,
  host: CpuTensor,
  options: PlayOptions,
): Promise<Tensor> {
  const t = allocated(a2a, target, host.dtype, host.shape, options);
  await a2a.write(t, host.data);
  return t;
}
