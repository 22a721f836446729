import type { MoeAllToAllConfig, ThreadTicket } from "@moe-a2a/core";
import type { Fault } from "../args.js";
import type { ModelShape } from "../model/shape.js";
import type { Request } from "../text/requests.js";
import type { Served } from "./serve.js";

/** What a rank's worker is started with. */
export interface RankInput {
  readonly ticket: ThreadTicket;
  readonly config: MoeAllToAllConfig;
  readonly backend: "js" | "cuda";
  readonly shape: ModelShape;
  readonly weights: SharedArrayBuffer;
  readonly seed: number;
  /** This rank's own requests. */
  readonly requests: readonly Request[];
  /** A fault for this rank to make. */
  readonly fault: Fault | undefined;
}

/** What one rank has to say at its end. */
export interface RankSummary extends Served {
  readonly rank: number;
  readonly compared: number;
  readonly mismatches: number;
  readonly firstMismatch: string | undefined;
}

/** What a rank's worker says. */
export type RankMessage =
  | { readonly kind: "step"; readonly step: number; readonly tokensByRank: readonly number[] }
  | { readonly kind: "answer"; readonly request: number; readonly tokens: Int32Array }
  | { readonly kind: "done"; readonly summary: RankSummary }
  | {
      readonly kind: "failed";
      readonly rank: number;
      readonly message: string;
      /** Whether the fault is a peer's and this rank only noticed. */
      readonly byPeer: boolean;
    };
