import { type CpuTensor, type Group, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { type Spread, spread } from "../stats.js";
import type { Plan } from "./plan.js";

/** Bytes that each rank sends in a round, about: more than a core's own caches hold. */
const ROUND_BYTES = 8 * 2 ** 20;

/** Measures how fast rows are dispatched, against copies of the same rows in the same order between private buffers. */
export interface CopyWork {
  readonly kind: "copy";
  readonly rowBytes: number;
  /** Whether sources come from `empty()`, or from elsewhere. */
  readonly source: "empty" | "foreign";
}

export interface CopyFigures {
  readonly dispatchGBs: Spread;
  readonly memcpyGBs: Spread;
  readonly ratio: Spread;
}

/** A rank's part; both ranks do it at the same time, so that they share the machine in either half. */
export async function copyOnThread(
  group: Group,
  plan: Plan,
  { rowBytes, source }: CopyWork,
): Promise<CopyFigures> {
  const { size: epSize } = group;
  const tokens = Math.round(ROUND_BYTES / epSize / rowBytes);
  const config = {
    epSize,
    numExperts: epSize,
    topK: epSize,
    maxTokensPerRank: tokens,
    maxDispatchBytesPerToken: rowBytes,
    maxCombineBytesPerToken: 2,
  };
  const a2a = await jsBackend.create(config, group);
  // Every token goes to every rank.
  const ids = tensor(
    "int32",
    [tokens, epSize],
    Int32Array.from({ length: tokens * epSize }, (_, i) => i % epSize),
  );
  const payload: CpuTensor<"uint8"> =
    source === "empty"
      ? (a2a.empty("uint8", [tokens, rowBytes]) as CpuTensor<"uint8">)
      : tensor("uint8", [tokens, rowBytes]);
  payload.data.fill(1);
  const input = { numLocalTokens: tokens, tokenSelectedExperts: ids, payloads: [payload] };
  const bytes = tokens * epSize * rowBytes;

  const from = new Uint8Array(tokens * rowBytes).fill(1);
  const to = Array.from({ length: epSize }, () => new Uint8Array(tokens * rowBytes).fill(1));
  const memcpy = (): number => {
    const start = performance.now();
    for (let token = 0; token < tokens; token++) {
      const row = token * rowBytes;
      for (let rank = 0; rank < epSize; rank++) to[rank]!.set(from.subarray(row, row + rowBytes), row);
    }
    return bytes / (performance.now() - start) / 1e6;
  };
  const round = (): number => {
    const start = performance.now();
    const dispatch = a2a.dispatch(input);
    const speed = bytes / (performance.now() - start) / 1e6;
    dispatch.readySync();
    const combine = dispatch.combine(dispatch.combineBuffer(1, "bfloat16"));
    combine.readySync();
    return speed;
  };
  const [dispatchGBs, memcpyGBs, ratio]: [number[], number[], number[]] = [[], [], []];
  for (let s = -2; s < plan.samples; s++) {
    // Side by side in time, so that both see the same machine.
    const sample: [number[], number[]] = [[], []];
    for (let i = 0; i < 8; i++) {
      await group.exchange("dispatch", new Uint8Array());
      sample[0].push(round());
      await group.exchange("memcpy", new Uint8Array());
      sample[1].push(memcpy());
    }
    if (s < 0) continue;
    const [d, m] = [spread(sample[0]).median, spread(sample[1]).median];
    dispatchGBs.push(d);
    memcpyGBs.push(m);
    ratio.push(d / m);
  }
  await a2a.close();
  return { dispatchGBs: spread(dispatchGBs), memcpyGBs: spread(memcpyGBs), ratio: spread(ratio) };
}
