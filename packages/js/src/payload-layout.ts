import { alignUp, type WorkspaceLayout } from "@moe-a2a/core";
import type { Lane } from "./lane.js";
import { bufferOf } from "./round-number.js";

/**
 * Byte offset in a window of slot `[source, 0]` of payload `p`, in the receive buffer of `round`. Payloads follow one
 * another as `[epSize, maxTokens, rowBytes]`, each from an aligned start; the region holds every split of the config's
 * bytes per token.
 */
export function payloadOffsets(
  layout: WorkspaceLayout,
  lane: Lane,
  round: number,
  { maxTokens, rowBytes }: { readonly maxTokens: number; readonly rowBytes: readonly number[] },
): number[] {
  const offsets: number[] = [];
  let at = lane.at.recv + bufferOf(round) * layout.recvBufferBytes;
  for (let p = 0; p < rowBytes.length; p++) {
    offsets.push(at);
    at = alignUp(at + lane.ranks * maxTokens * rowBytes[p]!);
  }
  return offsets;
}
