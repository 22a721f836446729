import { MoeA2AError } from "../errors.js";

/** Why an instance cannot go on before a reset. */
export interface Failure {
  readonly error: MoeA2AError;
  /** Whether the caller has heard of it; until then calls fail through `ready()`, not by throwing. */
  told: boolean;
}

/** Which calls one rank's instance takes now, and the errors that say why not: the same for every backend. */
export abstract class InstanceState {
  readonly rank: number;
  failure: Failure | undefined;
  state: "open" | "resetting" | "closed" = "open";

  constructor(rank: number) {
    this.rank = rank;
  }

  /** Whether a reset of the others has left this rank out. */
  abstract isLeftOut(): boolean;

  /** A STATE error: which call, in which state, what to do, and the first failure. */
  stateError(call: string, state: string, problem: string): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    const cause = this.failure ? { cause: this.failure.error } : undefined;
    return new MoeA2AError("ERR_MOE_A2A_STATE", `rank ${this.rank}: ${call}: ${problem}`, { state }, cause);
  }

  isClosed(): boolean {
    return this.state === "closed";
  }

  /** @throws ERR_MOE_A2A_STATE after `close()` */
  checkOpen(call: string): void {
    if (this.isClosed()) {
      throw this.stateError(call, "closed", "this instance is closed; create a new one");
    }
  }

  /** @throws ERR_MOE_A2A_STATE where the instance takes no new phase */
  checkUsable(call: string): void {
    if (this.state !== "open" || this.failure?.told === true || this.isLeftOut()) throw this.#unusable(call);
  }

  /** Why the instance takes no new phase. */
  #unusable(call: string): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    if (this.state === "closed") {
      return this.stateError(
        call,
        "closed",
        "this instance is closed; only close() is allowed, create a new one",
      );
    }
    if (this.state === "resetting") {
      return this.stateError(call, "resetting", "a reset() is under way; await it first");
    }
    const first = this.failure?.error;
    if (first === undefined || this.isLeftOut()) return this.leftOutError(call);
    return this.stateError(
      call,
      "failed",
      `this instance has failed (${first.code}: ${first.message}); only reset(), abort() and close() are allowed`,
    );
  }

  /** @throws ERR_MOE_A2A_STATE where no `reset()` can start */
  checkResettable(): void {
    this.checkOpen("reset()");
    if (this.state === "resetting") {
      throw this.stateError("reset()", "resetting", "a reset() is under way");
    }
  }

  /** @throws ERR_MOE_A2A_STATE where there is nothing to abort */
  checkAbortable(): void {
    this.checkOpen("abort()");
    if (this.state === "resetting") {
      throw this.stateError("abort()", "resetting", "a reset() is under way, which has given up all rounds");
    }
    if (this.isLeftOut()) throw this.leftOutError("abort()");
  }

  leftOutError(call: string): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    return this.stateError(
      call,
      "leftOut",
      "a reset() of the other ranks has left this rank out; it takes part again after a reset() on every rank that names it",
    );
  }

  /** What becomes of rounds in flight when this rank resets or closes. */
  givenUpError(by: "reset" | "closed"): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    const call = by === "reset" ? "reset()" : "close()";
    return this.stateError("round", by, `${call} has given up this round`);
  }

  /** A dispatch without a free lane. */
  busyError(lane: number, round: number, problem: string, lanes: number): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    const cure = lanes === 1 ? " (config.roundsInFlight: 2 gives a second lane)" : "";
    return this.stateError("dispatch()", "busy", `lane ${lane} is in round ${round}: ${problem}${cure}`);
  }

  combinedError(round: number): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    return this.stateError(
      "combine()",
      "combined",
      `round ${round} was combined already; a dispatch combines once`,
    );
  }

  /** A look at what a dispatch showed, too late. */
  overError(what: string, round: number): MoeA2AError<"ERR_MOE_A2A_STATE"> {
    return this.stateError(
      what,
      "over",
      `round ${round} is over; its lane has gone on, or reset() has given it up`,
    );
  }
}
