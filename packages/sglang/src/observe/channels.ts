import type { DispatchReport } from "@moe-a2a/core";
import type { DeviceTime } from "./device-time.js";

/**
 * `node:diagnostics_channel` tracing channel of every dispatch through a dispatcher: `tracing:moe-a2a:dispatch:start` and so
 * on; messages are {@link PhaseMessage}s.
 */
export const DISPATCH_CHANNEL = "moe-a2a:dispatch";

/** The same for every combine. */
export const COMBINE_CHANNEL = "moe-a2a:combine";

/** What a message says before the phase has begun. */
export interface PhaseStart {
  readonly phase: "dispatch" | "combine";
  readonly rank: number;
  readonly epSize: number;
  /** Known at once where the phase is a combine whose dispatch was heard of. */
  round?: number;
  /** Known at once there, too, and where there is one lane, or a dispatcher keeps to one. */
  lane?: 0 | 1;
}

/**
 * What a message on the tracing channels says. There is one object for each phase, in which later events find more:
 *
 * - `start`: `phase`, `rank`, `epSize`, and `round` and `lane` as far as they are known;
 * - `end`, once it is enqueued: also `tokens`, `slots`, `rowBytes`; or `error`, where nothing was sent;
 * - `asyncStart` and `asyncEnd`, once it has arrived: also `round`, `lane`, `bytes` and `report`;
 * - `error`: also `error`.
 *
 * On a GPU the arrival is when the host hears of it, and `deviceTime` tells when the phase ran; a phase that is part of a graph has none, as replays have no phases.
 */
export interface PhaseMessage extends PhaseStart {
  /** Set by a listener at `start` that wants `deviceTime`, which takes some microseconds of a GPU's phase. */
  timed?: boolean;
  /** Of this rank; 0 for an idle one. */
  tokens?: number;
  /** Slots per sender, m. */
  slots?: number;
  /** Bytes of a token: of all payloads of a dispatch, or of a row of results. */
  rowBytes?: number;
  /** What this rank sent in a dispatch, or summed in a combine, its own share included. */
  bytes?: number;
  /** Of the dispatch; its `waitMs` tells how long this rank waited for each peer. */
  report?: DispatchReport;
  /** On a GPU, at `asyncEnd`, where a listener has set `timed` and the phase has not failed. */
  deviceTime?: DeviceTime;
  error?: unknown;
}
