import {
  type CpuTensor,
  type Dispatch,
  type Group,
  type MoeAllToAll,
  oracleCombine,
  oracleDispatch,
} from "@moe-a2a/core";
import type { BackendUnderTest } from "../backends.js";
import { sameBytes, sameOutput, sameRows } from "../check.js";
import { Random } from "../random.js";
import { firstRows } from "../round.js";
import { ID_PAYLOAD, makeVariants } from "./plan.js";

/** Slots, and rows of the captured inputs. */
const ROWS = 24;
/** One replay in so many is compared byte for byte. */
const VERIFY = 37;
const UNTOUCHED = 0x5aa5;

export interface ReplayResult {
  readonly replays: number;
  readonly verified: number;
  readonly zeros: number;
  readonly seconds: number;
}

/** Tokens of each rank in one replay; zeros as often as not. */
function drawCounts(random: Random, ranks: number): number[] {
  const idle = random.oneIn(4) ? 2 ** ranks - 1 : random.int(0, 2 ** ranks - 1);
  return Array.from({ length: ranks }, (_, r) => {
    const tokens = random.int(0, ROWS);
    return Math.floor(idle / 2 ** r) % 2 ? 0 : tokens;
  });
}

/** Replays one captured round over and over, each time with another count in device memory. */
export async function soakReplays(
  a2a: MoeAllToAll,
  target: BackendUnderTest,
  group: Group,
  replays: number,
  seed: number,
): Promise<ReplayResult> {
  const { epSize: R } = a2a.config;
  const rank = a2a.epRank;
  const inputs = makeVariants(a2a.config, seed)[1]!.inputs.map((input) => ({
    tokenSelectedExperts: firstRows(input.tokenSelectedExperts, ROWS),
    payloads: input.payloads.map((p) => firstRows(p, ROWS)),
    expertIdPayloadIndex: ID_PAYLOAD,
  }));
  const upload = async (host: CpuTensor) => {
    const t = a2a.empty(host.dtype, host.shape);
    await a2a.write(t, host.data);
    return t;
  };
  const own = inputs[rank]!;
  const hidden = own.payloads[0]!;
  const tokenSelectedExperts = await upload(own.tokenSelectedExperts);
  const payloads = await Promise.all(own.payloads.map(upload));
  const count = a2a.empty("int32", [1]);
  const out = a2a.empty(hidden.dtype, hidden.shape);
  const untouched = new Uint16Array(out.shape[0]! * out.shape[1]!).fill(UNTOUCHED);
  let received: Pick<Dispatch, "recv" | "recvCounts"> | undefined;
  const graph = await target.cuda!.capture(a2a, (stream) => {
    const dispatch = a2a.dispatch({
      numLocalTokens: count,
      tokenSelectedExperts,
      payloads,
      runtimeMaxTokensPerRank: ROWS,
      expertIdPayloadIndex: ID_PAYLOAD,
      stream,
    });
    received = { recv: dispatch.recv, recvCounts: dispatch.recvCounts };
    dispatch.combine(dispatch.recv[0]!, { out, stream });
  });
  const { recv, recvCounts } = received!;

  const random = new Random("replays", seed);
  const start = performance.now();
  let verified = 0;
  let zeros = 0;
  for (let turn = 0; turn < replays; turn++) {
    const counts = drawCounts(random, R);
    const verify = turn % VERIFY === 0;
    if (counts[rank] === 0) zeros++;
    await a2a.write(count, Int32Array.of(counts[rank]!));
    if (verify) await a2a.write(out, untouched);
    await graph.replay().ready();
    if (!verify) continue;
    const dispatched = oracleDispatch({
      config: a2a.config,
      runtimeMaxTokensPerRank: ROWS,
      inputs: inputs.map((input, r) => ({
        ...input,
        tokenSelectedExperts: firstRows(input.tokenSelectedExperts, counts[r]!),
        payloads: input.payloads.map((p) => firstRows(p, counts[r]!)),
      })),
    });
    const expected = dispatched[rank]!;
    sameBytes("recvCounts", await a2a.read(recvCounts), expected.recvCounts.data);
    for (const [p, rows] of expected.recv.entries()) {
      const received = await a2a.read(recv[p]!);
      sameRows(`recv[${p}]`, received, rows, expected.recvCounts.data, p === ID_PAYLOAD);
    }
    const expertOutputs = dispatched.map((d) => d!.recv[0]!);
    const rows = oracleCombine({ dispatched, expertOutputs })[rank]!;
    const output = (await a2a.read(out)) as Uint16Array;
    sameOutput("output", output.subarray(0, rows.data.length), rows);
    sameBytes("rows past the count", output.subarray(rows.data.length), untouched.subarray(rows.data.length));
    verified++;
    // What was received holds only until peers send the next replay.
    await group.exchange("verified", new Uint8Array());
  }
  return { replays, verified, zeros, seconds: (performance.now() - start) / 1000 };
}
