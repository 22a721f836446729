import { tracingChannel } from "node:diagnostics_channel";
import { type DispatchReport, isMoeA2AError } from "@moe-a2a/core";
import { COMBINE_CHANNEL, DISPATCH_CHANNEL, type PhaseMessage, type PhaseStart } from "./channels.js";
import { type DeviceTime, deviceTimeOf } from "./device-time.js";

const CHANNELS = {
  dispatch: tracingChannel<unknown, PhaseMessage>(DISPATCH_CHANNEL),
  combine: tracingChannel<unknown, PhaseMessage>(COMBINE_CHANNEL),
};

/** Tells the channels of one phase. It exists only where somebody listens. */
export class PhaseTrace {
  readonly #message: PhaseMessage;

  private constructor(start: PhaseStart) {
    this.#message = start;
    this.#channels.start.publish(this.#message);
  }

  /**
   * Undefined where nobody listens; then nothing else of a phase is traced.
   *
   * @param lane and `round`, as far as they are known already: a phase that fails is told of in the right place, too
   */
  static start(
    phase: PhaseStart["phase"],
    rank: number,
    epSize: number,
    lane?: 0 | 1,
    round?: number,
  ): PhaseTrace | undefined {
    if (!CHANNELS[phase].hasSubscribers) return undefined;
    const start: PhaseStart = { phase, rank, epSize };
    if (lane !== undefined) start.lane = lane;
    if (round !== undefined) start.round = round;
    return new PhaseTrace(start);
  }

  get #channels(): (typeof CHANNELS)["dispatch"] {
    return CHANNELS[this.#message.phase];
  }

  /** Whether a listener wants to know when the phase ran on its GPU. */
  get isTimed(): boolean {
    return this.#message.timed === true;
  }

  /** The phase is enqueued. */
  enqueued(facts: Pick<PhaseMessage, "tokens" | "slots" | "rowBytes">): void {
    Object.assign(this.#message, facts);
    this.#channels.end.publish(this.#message);
  }

  /** Nothing was sent. */
  refused(error: unknown): void {
    this.#message.error = error;
    this.#channels.error.publish(this.#message);
    this.#channels.end.publish(this.#message);
  }

  /** The phase has arrived; `report` of its round's dispatch, where it is known. */
  arrived(report: DispatchReport | undefined, deviceTime?: DeviceTime): void {
    const message = this.#message;
    if (deviceTime !== undefined) message.deviceTime = deviceTime;
    if (report !== undefined) {
      const { round, lane, tokensSent } = report;
      Object.assign(message, { round, lane, bytes: tokensSent * message.rowBytes!, report });
    }
    this.#channels.asyncStart.publish(message);
    this.#channels.asyncEnd.publish(message);
  }

  failed(error: unknown): void {
    this.#message.error = error;
    this.#channels.error.publish(this.#message);
    this.#channels.asyncStart.publish(this.#message);
    this.#channels.asyncEnd.publish(this.#message);
  }

  /** Tells of the arrival of a phase that its caller does not wait for, as on a GPU. */
  follow(
    phase: { ready(): Promise<unknown> },
    reportOf: (result: unknown) => DispatchReport | undefined,
  ): void {
    const wait = async (): Promise<void> => {
      let result: unknown;
      try {
        result = await phase.ready();
      } catch (error) {
        // A phase of a graph is recorded and not played: it never arrives.
        const captured = isMoeA2AError(error, "ERR_MOE_A2A_STATE") && error.state === "captured";
        if (!captured) this.failed(error);
        return;
      }
      // Others may ask for it before the time is there.
      const report = reportOf(result);
      this.arrived(report, this.isTimed ? await deviceTimeOf(phase) : undefined);
    };
    void wait();
  }
}
