import { isMoeA2AError, MoeA2AError, type MoeA2AErrorOf } from "@moe-a2a/core";

const STAGES = ["INITIAL", "AFTER_DISPATCH_A", "AFTER_DISPATCH_B", "AFTER_COMBINE_A"] as const;

/** Where a dispatcher is in its round. */
export type DispatcherStage = (typeof STAGES)[number];

/** The calls that move a dispatcher from stage to stage. */
export type DispatcherCall = "dispatch" | "dispatchA" | "dispatchB" | "combine" | "combineA" | "combineB";

const STAGE_OF: Readonly<Record<DispatcherCall, DispatcherStage>> = {
  dispatch: "INITIAL",
  dispatchA: "INITIAL",
  dispatchB: "AFTER_DISPATCH_A",
  combine: "AFTER_DISPATCH_B",
  combineA: "AFTER_DISPATCH_B",
  combineB: "AFTER_COMBINE_A",
};

/** A call that does not fit the dispatcher's stage; nothing was done. */
export type DispatcherStageError = MoeA2AErrorOf<"ERR_MOE_A2A_STATE"> & { readonly state: DispatcherStage };

/** Whether `e` tells of a call at the wrong stage of a dispatcher (and not of a failed or closed all-to-all). */
export function isDispatcherStageError(e: unknown): e is DispatcherStageError {
  return isMoeA2AError(e, "ERR_MOE_A2A_STATE") && (STAGES as readonly string[]).includes(e.state);
}

function stageError(stage: DispatcherStage, message: string): MoeA2AError<"ERR_MOE_A2A_STATE"> {
  return new MoeA2AError("ERR_MOE_A2A_STATE", message, { state: stage });
}

/** One call while it runs; `call` as its caller knows it. */
export interface RunningCall {
  readonly call: DispatcherCall;
}

/** The stages of one dispatcher, and the one call that may be running. */
export class StageMachine {
  #stage: DispatcherStage = "INITIAL";
  #running: RunningCall | undefined;

  get stage(): DispatcherStage {
    return this.#stage;
  }

  /** Starts `step`, if it is its turn, on behalf of `call`. */
  begin(step: DispatcherCall, call: DispatcherCall = step): RunningCall {
    if (this.#running !== undefined) {
      throw stageError(
        this.#stage,
        `${call}() is not allowed at stage ${this.#stage} while ${this.#running.call}() still runs; await that first`,
      );
    }
    if (STAGE_OF[step] !== this.#stage) {
      const calls = Object.keys(STAGE_OF) as DispatcherCall[];
      const allowed = calls.filter((c) => STAGE_OF[c] === this.#stage).map((c) => `${c}()`);
      const reset = this.#stage === "INITIAL" ? "" : ", or, once a2a.reset() has given the round up, reset()";
      throw stageError(
        this.#stage,
        `${call}() is not allowed at stage ${this.#stage}; allowed now: ${allowed.join(" or ")}${reset}`,
      );
    }
    this.#running = { call };
    return this.#running;
  }

  /** Throws where `reset()` has taken the round away from `running`. */
  check(running: RunningCall): void {
    if (this.#running === running) return;
    throw stageError(this.#stage, `${running.call}() was given up: reset() was called while it ran`);
  }

  /** Ends `running` at `stage`; false where `reset()` has already ended it. */
  end(running: RunningCall, stage: DispatcherStage): boolean {
    if (this.#running !== running) return false;
    this.#running = undefined;
    this.#stage = stage;
    return true;
  }

  reset(): void {
    this.#running = undefined;
    this.#stage = "INITIAL";
  }
}
