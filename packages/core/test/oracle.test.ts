import { describe, expect, it } from "vitest";
import type { MoeAllToAllConfig } from "../src/config.js";
import { float32ToBfloat16, float32ToFloat16, fromFloat32 } from "../src/float16.js";
import { type OracleRound, oracleCombine, oracleDispatch } from "../src/oracle.js";
import { expertOwner } from "../src/placement.js";
import { type CpuTensor, tensor } from "../src/tensor.js";

const config = (over: Partial<MoeAllToAllConfig> = {}): MoeAllToAllConfig => ({
  epSize: 3,
  numExperts: 6,
  topK: 3,
  maxTokensPerRank: 4,
  maxDispatchBytesPerToken: 64,
  maxCombineBytesPerToken: 64,
  ...over,
});

/** One uint8 payload of one byte per token, which names it. */
function input(ids: readonly (readonly number[])[], names: readonly number[], topK = 3) {
  return {
    tokenSelectedExperts: tensor("int32", [ids.length, topK], ids.flat()),
    payloads: [tensor("uint8", [ids.length, 1], names)],
  };
}

// Experts 0, 1 live on rank 0; 2, 3 on rank 1; 4, 5 on rank 2.
const example: OracleRound = {
  config: config(),
  inputs: [
    input(
      [
        [4, 0, 5],
        [2, 3, 4],
        [-1, 1, 0],
      ],
      [10, 11, 12],
    ),
    input([], []),
    input([[5, 2, -1]], [30]),
  ],
};

describe("oracleDispatch", () => {
  it("sends a token once to each distinct rank, into slots in token order", () => {
    const [zero, one, two] = oracleDispatch(example);
    expect(zero!.routing).toEqual([
      [
        { k: 0, rank: 2, slot: 0 },
        { k: 1, rank: 0, slot: 0 },
      ],
      [
        { k: 0, rank: 1, slot: 0 },
        { k: 2, rank: 2, slot: 1 },
      ],
      [{ k: 1, rank: 0, slot: 1 }],
    ]);
    expect(one!.routing).toEqual([]);
    expect([...zero!.recvCounts.data]).toEqual([2, 0, 0]);
    expect([...one!.recvCounts.data]).toEqual([1, 0, 1]);
    expect([...two!.recvCounts.data]).toEqual([2, 0, 1]);
    expect(two!.recv[0]!.shape).toEqual([3, 4, 1]);
    expect([...two!.recv[0]!.data]).toEqual([10, 11, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0]);
    expect([zero!.tokensSent, one!.tokensSent, two!.tokensSent]).toEqual([5, 0, 2]);
    expect([zero!.tokensReceived, one!.tokensReceived, two!.tokensReceived]).toEqual([2, 2, 3]);
    expect(zero!.droppedEntries).toEqual({ padding: 1, invalidExpert: 0, inactiveRank: 0 });
  });

  it("takes as many slots as the round says, also none", () => {
    const [zero] = oracleDispatch({ ...example, runtimeMaxTokensPerRank: 3 });
    expect(zero!.recv[0]!.shape).toEqual([3, 3, 1]);
    expect([...zero!.recv[0]!.data]).toEqual([10, 12, 0, 0, 0, 0, 0, 0, 0]);
    const empty = oracleDispatch({
      config: config(),
      runtimeMaxTokensPerRank: 0,
      inputs: [input([], []), input([], []), input([], [])],
    });
    expect(empty.map((d) => [...d!.recvCounts.data])).toEqual([
      [0, 0, 0],
      [0, 0, 0],
      [0, 0, 0],
    ]);
    expect(empty[0]!.recv[0]!.shape).toEqual([3, 0, 1]);
  });

  it("fills the padding slots of the named id payload", () => {
    const ids = [[4, 0, 5]];
    const withIds = (name?: { expertIdPayloadIndex: number; invalidTokenExpertId?: number }) => ({
      tokenSelectedExperts: tensor("int32", [1, 3], ids.flat()),
      payloads: [tensor("uint8", [1, 1], [7]), tensor("int32", [1, 3], ids.flat())],
      ...name,
    });
    const inputs = [
      withIds({ expertIdPayloadIndex: 1 }),
      withIds({ expertIdPayloadIndex: 1, invalidTokenExpertId: -3 }),
      withIds(),
    ];
    const [zero, one, two] = oracleDispatch({ config: config(), runtimeMaxTokensPerRank: 1, inputs });
    expect([...zero!.recv[1]!.data]).toEqual([4, 0, 5, 4, 0, 5, 4, 0, 5]);
    expect([...one!.recv[1]!.data]).toEqual([-3, -3, -3, -3, -3, -3, -3, -3, -3]);
    expect([...two!.recv[1]!.data]).toEqual([4, 0, 5, 4, 0, 5, 4, 0, 5]);
    expect([...zero!.recvCounts.data]).toEqual([1, 1, 1]);
    expect([...one!.recvCounts.data]).toEqual([0, 0, 0]);
  });

  it("carries rows of any dtype and length verbatim, from views at any offset", () => {
    const bytes = Uint8Array.from({ length: 9 + 3 }, (_, i) => i * 17);
    const scales = Uint16Array.of(0x7fc1, 0x8000, 0xffff);
    const [zero] = oracleDispatch({
      config: config({ epSize: 1, numExperts: 1, topK: 1 }),
      runtimeMaxTokensPerRank: 3,
      inputs: [
        {
          tokenSelectedExperts: tensor("int32", [3, 1], [0, -1, 0]),
          payloads: [tensor("uint8", [3, 3], bytes.subarray(3)), tensor("bfloat16", [3, 1], scales)],
        },
      ],
    });
    expect([...zero!.recv[0]!.data].slice(0, 6)).toEqual([...bytes.slice(3, 6), ...bytes.slice(9)]);
    expect([...zero!.recv[1]!.data].slice(0, 2)).toEqual([0x7fc1, 0xffff]);
    expect(zero!.recv[1]!.dtype).toBe("bfloat16");
  });

  it("refuses ids that are no expert's, or drops and counts them", () => {
    for (const id of [-2, 6, 2 ** 31 - 1]) {
      const inputs = [input([], []), input([[0, 1, -1], ...[[3, id, -1]]], [1, 2]), input([], [])];
      expect(() => oracleDispatch({ config: config(), inputs })).toThrow(
        expect.objectContaining({ code: "ERR_MOE_A2A_EXPERT_ID", rank: 1, token: 1, k: 1, id }),
      );
      const [, one] = oracleDispatch({ config: config({ invalidExpert: "drop" }), inputs });
      expect(one!.droppedEntries).toEqual({ padding: 2, invalidExpert: 1, inactiveRank: 0 });
      expect(one!.routing[1]).toEqual([{ k: 0, rank: 1, slot: 0 }]);
    }
  });

  it("refuses more tokens than slots", () => {
    expect(() => oracleDispatch({ ...example, runtimeMaxTokensPerRank: 2 })).toThrow(
      expect.objectContaining({ code: "ERR_MOE_A2A_CAPACITY", value: 3, limit: 2 }),
    );
  });

  it("drops and counts entries of absent ranks, whose rows are 0", () => {
    const stats = (n: number) => tensor("int32", [2], [n, n + 1]);
    const inputs = example.inputs.map((i, r) => (r === 2 ? undefined : { ...i!, expertStats: stats(5 + r) }));
    const [zero, one, two] = oracleDispatch({ ...example, activeRanks: [0, 1], inputs });
    expect(two).toBeUndefined();
    expect(zero!.droppedEntries).toEqual({ padding: 1, invalidExpert: 0, inactiveRank: 3 });
    expect(zero!.routing[0]).toEqual([{ k: 1, rank: 0, slot: 0 }]);
    expect([...zero!.recvCounts.data]).toEqual([2, 0, 0]);
    expect([...one!.recvCounts.data]).toEqual([1, 0, 0]);
    expect(one!.expertStats!.shape).toEqual([3, 2]);
    expect([...one!.expertStats!.data]).toEqual([5, 6, 6, 7, 0, 0]);
  });
});

describe("oracleCombine", () => {
  /** One rank's token, sent to `rows.length` ranks in order, whose owners return `rows`. */
  function sum(
    dtype: "float32" | "float16" | "bfloat16",
    rows: readonly (readonly number[])[],
    out?: typeof dtype,
  ) {
    const R = rows.length;
    const world = config({ epSize: R, numExperts: R, topK: R, maxTokensPerRank: 1 });
    const ids = rows.map((_, k) => k);
    const none = input([], [], R);
    const dispatched = oracleDispatch({
      config: world,
      inputs: rows.map((_, r) => (r === 0 ? input([ids], [1], R) : none)),
    });
    const hidden = rows[0]!.length;
    const expertOutputs = rows.map((row) => {
      const data = fromFloat32(dtype, new Float32Array(R * hidden).fill(99));
      data.set(fromFloat32(dtype, Float32Array.from(row)));
      return tensor(dtype, [R, 1, hidden], data);
    });
    return oracleCombine({ dispatched, expertOutputs, outDtypes: [out] })[0]!;
  }
  const values = (t: CpuTensor) => [...t.data].map(Number);

  it("adds in float32, in ascending k, each step rounded", () => {
    // 2^24 + 1 is lost in float32 unless the small ones meet first.
    expect(values(sum("float32", [[2 ** 24], [1], [1]]))).toEqual([2 ** 24]);
    expect(values(sum("float32", [[1], [1], [2 ** 24]]))).toEqual([2 ** 24 + 2]);
  });

  it("rounds once, at the end", () => {
    // Rounded to bfloat16 after each step, 256 + 1 + 1 would stay 256.
    expect(values(sum("bfloat16", [[256], [1], [1]]))).toEqual([float32ToBfloat16(258)]);
    expect(values(sum("float16", [[2048], [1], [1]]))).toEqual([float32ToFloat16(2050)]);
  });

  it("starts from +0, so that a single -0 sums to +0", () => {
    expect(values(sum("float32", [[-0]]))).toEqual([0]);
    expect(values(sum("bfloat16", [[-0], [-0]]))).toEqual([0]);
  });

  it("overflows to infinity, keeps subnormals, knows NaN", () => {
    expect(
      values(
        sum("float16", [
          [65504, 2 ** -24],
          [65504, 2 ** -24],
        ]),
      ),
    ).toEqual([0x7c00, 2]);
    expect(values(sum("float32", [[3e38], [3e38]]))).toEqual([Infinity]);
    expect(values(sum("float32", [[Infinity], [-Infinity]]))).toEqual([Number.NaN]);
    expect(values(sum("bfloat16", [[2 ** -133], [2 ** -133]]))).toEqual([2]);
  });

  it("rounds to the output's dtype where it differs", () => {
    const result = sum("bfloat16", [[256], [1]], "float32");
    expect(result.dtype).toBe("float32");
    expect(values(result)).toEqual([257]);
    expect(values(sum("float32", [[65519.99], [0]], "float16"))).toEqual([0x7bff]);
  });

  it("gives zeros to tokens that went nowhere, nothing to ranks without tokens, and skips absent ranks", () => {
    const round: OracleRound = {
      config: config(),
      runtimeMaxTokensPerRank: 2,
      activeRanks: [0, 1],
      inputs: [
        input(
          [
            [4, 5, -1],
            [2, 0, 1],
          ],
          [1, 2],
        ),
        input([], []),
        undefined,
      ],
    };
    const outputs = [1, 2].map((v) => tensor("float32", [3, 2, 1], new Array(6).fill(v)));
    const [zero, one, two] = oracleCombine({
      dispatched: oracleDispatch(round),
      expertOutputs: [...outputs, undefined],
    });
    expect(values(zero!)).toEqual([0, 3]);
    expect(one!.shape).toEqual([0, 1]);
    expect(two).toBeUndefined();
  });

  it("agrees with a dense layer whose entries are grouped by rank", () => {
    const world = config({ epSize: 3, numExperts: 7, topK: 4, maxTokensPerRank: 5 });
    const ids = [0, 1, 2].map((r) =>
      Array.from({ length: 5 - r }, (_, t) => Array.from({ length: 4 }, (_, k) => (r + 3 * t + 2 * k) % 7)),
    );
    const names = (r: number) => ids[r]!.map((_, t) => 1 + 10 * r + t);
    const dispatched = oracleDispatch({
      config: world,
      inputs: ids.map((rows, r) => input(rows, names(r), 4)),
    });
    const expert = (x: number, e: number) => Math.fround(Math.fround(x * 1.1) / (e + 3));
    // On each owner: its experts of the token, in ascending k.
    const local = (rank: number, x: number, chosen: readonly number[]) =>
      chosen
        .filter((e) => expertOwner(world, e) === rank)
        .reduce((sum, e) => Math.fround(sum + expert(x, e)), 0);
    const expertOutputs = dispatched.map((d, rank) => {
      const out = tensor("float32", [3, 5, 1]);
      d!.recvCounts.data.forEach((count, s) => {
        for (let j = 0; j < count; j++) {
          const x = Number(d!.recv[0]!.data[s * 5 + j]);
          const chosen = ids[s]![names(s).indexOf(x)]!;
          out.data[s * 5 + j] = local(rank, x, chosen);
        }
      });
      return out;
    });
    const combined = oracleCombine({ dispatched, expertOutputs });
    combined.forEach((out, r) => {
      const dense = ids[r]!.map((chosen, t) =>
        [...new Set(chosen.map((e) => expertOwner(world, e)))].reduce(
          (sum, rank) => Math.fround(sum + local(rank, names(r)[t]!, chosen)),
          0,
        ),
      );
      expect(values(out!)).toEqual(dense);
    });
  });
});
