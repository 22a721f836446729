import type { MoeAllToAllConfig, ProcessGroupOptions, ThreadTicket } from "@moe-a2a/core";
import type { Fault } from "../args.js";
import type { ModelShape } from "../model/shape.js";
import type { Request } from "../text/requests.js";
import type { Served } from "./serve.js";

/** What a rank is told, wherever it lives. */
export interface RankInput {
  readonly rank: number;
  readonly config: MoeAllToAllConfig;
  readonly backend: "js" | "cuda";
  readonly shape: ModelShape;
  readonly seed: number;
  /** This rank's own requests. */
  readonly requests: readonly Request[];
  /** A fault for this rank to make. */
  readonly fault: Fault | undefined;
}

/** What a rank's worker thread is started with. */
export interface ThreadInput extends RankInput {
  readonly ticket: ThreadTicket;
  readonly weights: SharedArrayBuffer;
}

/** What a rank's process is sent first. */
export interface ProcessInput extends RankInput {
  readonly group: ProcessGroupOptions;
}

/** What one rank has to say at its end. */
export interface RankSummary extends Served {
  readonly rank: number;
  readonly compared: number;
  readonly mismatches: number;
  readonly firstMismatch: string | undefined;
}

/** What a rank says as it goes. */
export type Progress =
  | { readonly kind: "step"; readonly step: number; readonly tokensByRank: readonly number[] }
  | { readonly kind: "answer"; readonly request: number; readonly tokens: Int32Array };

/** What a rank says last. */
export type LastWord =
  | { readonly kind: "done"; readonly summary: RankSummary }
  | {
      readonly kind: "failed";
      readonly rank: number;
      readonly message: string;
      /** Whether the fault is a peer's and this rank only noticed. */
      readonly byPeer: boolean;
    };
