import { checkSignal, type DispatchReport, type MoeA2AError, type ReadyOptions } from "@moe-a2a/core";
import { unlessAborted } from "./abandon.js";
import type { CudaContext, Epoch } from "./context.js";
import type { Lane } from "./lane.js";
import { cudaError, PHASES } from "./native.js";
import { hasCompleted, makeReport, outcomeValues } from "./outcome.js";

/** How long a blocking wait stays in the addon before it looks for peers that have left, in microseconds. */
const POLL_US = 2000;

/** What became of one phase: asked once its event has passed, and kept. */
export class PhaseWait {
  readonly #context: CudaContext;
  readonly #lane: Lane;
  readonly #kind: "dispatch" | "combine";
  readonly #round: number;
  outcome: "pending" | "done" | "failed" = "pending";
  error: unknown;
  /** Of the dispatches that were asked for, once the phase is done. */
  reports: readonly DispatchReport[] = [];
  readonly #reported: readonly number[];
  readonly #epoch: Epoch;
  #settled: Promise<void> | undefined;
  #resolve: (() => void) | undefined;
  #token = 0;
  /** What is waited for. */
  #event = 0n;

  /** @param reported rounds up to this one of whose dispatches the reports are kept */
  constructor(
    context: CudaContext,
    lane: Lane,
    kind: "dispatch" | "combine",
    round: number,
    reported: readonly number[] = [],
  ) {
    this.#context = context;
    this.#reported = reported;
    this.#lane = lane;
    this.#kind = kind;
    this.#round = round;
    this.#epoch = context.epoch;
  }

  /** @throws (rejects) the phase's error, or the signal's reason */
  async ready(options?: ReadyOptions): Promise<void> {
    const signal = checkSignal(this.#context.rank, options?.signal);
    if (signal?.aborted) throw signal.reason;
    this.#look();
    if (this.outcome === "pending") {
      await unlessAborted(this.#wait(), signal);
    }
    this.#throwFailure();
  }

  /** As `ready()`, blocking the thread: ranks that share it have to have enqueued their part. @throws the phase's error */
  readySync(call: string): void {
    const context = this.#context;
    this.#look();
    while (this.outcome === "pending") {
      context.markDepartures();
      const event = this.#lane.events.after(this.#kind, this.#round);
      const passed = context.call(call, (native) => native.pollEvent(context.device.id, event, POLL_US));
      if (passed) this.#decide();
    }
    this.#throwFailure();
  }

  /** Settles a pending phase with `error`. */
  giveUp(error: MoeA2AError): void {
    if (this.outcome !== "pending") return;
    this.#settle("failed", error);
    if (this.#token !== 0) this.#context.native.cancel(this.#token);
  }

  /** Waits for another event, where it waits for the one that has come to stand for a later phase. */
  retarget(taken: bigint): void {
    if (this.outcome === "pending" && this.#event === taken) this.#await();
  }

  /** Whether the round was given up before anybody asked. */
  #look(): void {
    if (this.#epoch.givenUp) this.giveUp(this.#epoch.givenUp);
  }

  /** One wait for all who ask, which never rejects. */
  #wait(): Promise<void> {
    if (this.#settled) return this.#settled;
    const context = this.#context;
    this.#settled = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    context.beginWait();
    void this.#settled.then(() => context.endWait());
    this.#lane.waiting.add(this);
    this.#await();
    return this.#settled;
  }

  #await(): void {
    const context = this.#context;
    const former = this.#token;
    try {
      context.markDepartures();
      this.#event = this.#lane.events.after(this.#kind, this.#round);
      const token = context.native.waitFor(context.device.id, this.#event);
      this.#token = token;
      context.tokens.end(token).then(
        () => token === this.#token && this.#decide(),
        (error: unknown) => this.#break(error),
      );
      if (former !== 0) context.native.cancel(former);
    } catch (error) {
      this.#break(error);
    }
  }

  #decide(): void {
    if (this.outcome !== "pending") return;
    const context = this.#context;
    const { index: lane } = this.#lane;
    const values = outcomeValues();
    const look = (kind: "dispatch" | "combine", round: number) =>
      context.native.outcome(context.id, lane, PHASES[kind], round >>> 0, values);
    try {
      const failure = look(this.#kind, this.#round);
      if (hasCompleted(values)) {
        this.reports = this.#reported.map((round) => {
          if (this.#kind === "combine") look("dispatch", round);
          return makeReport(values, { round, lane, ranks: context.config.epSize });
        });
        this.#settle("done", undefined);
      } else this.#settle("failed", context.fail(failure));
    } catch (error) {
      this.#break(error);
    }
  }

  #break(error: unknown): void {
    if (this.outcome !== "pending") return;
    const { rank } = this.#context;
    this.#settle("failed", cudaError(error, `rank ${rank}, ${this.#kind} of round ${this.#round}`));
  }

  #settle(outcome: "done" | "failed", error: unknown): void {
    this.outcome = outcome;
    this.error = error;
    this.#lane.waiting.delete(this);
    this.#resolve?.();
  }

  #throwFailure(): void {
    if (this.outcome !== "failed") return;
    const { failure } = this.#context;
    if (failure) failure.told = true;
    throw this.error;
  }
}
