import { MoeA2AError } from "@moe-a2a/core";
import { installedNative } from "./loader.js";
import type { Native } from "./native.js";
import { status } from "./status.js";
import { Tokens } from "./tokens.js";

/** The addon of this thread, where CUDA can run. */
export interface Runtime {
  readonly native: Native;
  readonly tokens: Tokens;
}

let runtime: Runtime | undefined;
let tokens: Tokens | undefined;

/** The one listener of this thread to what the addon does beside it; also where CUDA cannot run. */
export function tokensOf(native: Native): Tokens {
  tokens ??= new Tokens(native);
  return tokens;
}

/** @throws ERR_MOE_A2A_UNAVAILABLE where CUDA cannot run */
export function cudaRuntime(): Runtime {
  const now = status();
  if (!now.available) {
    const { reason, hint } = now;
    throw new MoeA2AError("ERR_MOE_A2A_UNAVAILABLE", `the cuda backend cannot run here: ${reason}; ${hint}`, {
      reason,
      hint,
    });
  }
  const { native } = installedNative();
  runtime ??= { native: native!, tokens: tokensOf(native!) };
  return runtime;
}
