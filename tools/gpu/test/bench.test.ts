import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type BenchFigures, compare, floorOf, formatBench, type Reference } from "../src/bench/figures.js";
import { drawIds, type Routing, rowsBetween } from "../src/bench/routing.js";
import { configOf, factors, pointsOf, shapes } from "../src/bench/shapes.js";
import { median, quantile } from "../src/bench/statistics.js";

const reference = JSON.parse(
  readFileSync(new URL("../reference/flashinfer.json", import.meta.url), "utf8"),
) as Reference;
const figures: BenchFigures = {
  ranks: 4,
  samples: 25,
  roundsPerGraph: 20,
  storeGBs: 349,
  rows: [
    { shape: "deepseek", tokens: 0, slots: 1, dispatch: 4, combine: 4, round: 6.9 },
    { shape: "deepseek", tokens: 0, slots: 0, round: 9.2 },
    { shape: "deepseek", tokens: 128, slots: 128, dispatch: 25, combine: 25.7, round: 48 },
    { shape: "deepseek", tokens: 128, slots: 128, idle: "ranks 1, 3", round: 39.3 },
    { shape: "deepseek", tokens: 4096, slots: 4096, idle: "all ranks", round: 5 },
  ],
};

describe("a figure beside the reference's", () => {
  it("is held against the same shape and tokens, scaled by the probe", () => {
    const row = figures.rows[2]!;
    expect(compare(row, "round", figures, reference)).toMatchObject({ theirs: 41.2, ok: false });
    const slow = compare(row, "round", { ...figures, storeGBs: 349 / 2 }, reference);
    expect(slow).toMatchObject({ theirs: 82.4, ok: true });
    expect(slow?.ratio).toBeCloseTo(48 / 82.4);
  });

  it("is held to an absolute limit without tokens", () => {
    expect(compare(figures.rows[0]!, "round", figures, reference)?.ok).toBe(true);
    expect(compare(figures.rows[1]!, "round", figures, reference)?.ok).toBe(false);
    expect(compare(figures.rows[0]!, "dispatch", figures, reference)?.ok).toBeUndefined();
  });

  it("is held against nothing on another number of ranks, or where there is nothing", () => {
    expect(compare(figures.rows[2]!, "round", { ranks: 2 }, reference)).toMatchObject({
      theirs: undefined,
      ok: undefined,
    });
    expect(compare(figures.rows[4]!, "round", figures, reference)?.theirs).toBeUndefined();
    expect(compare(figures.rows[3]!, "dispatch", figures, reference)).toBeUndefined();
  });

  it("stands in a table", () => {
    expect(formatBench(figures, reference)).toMatchInlineSnapshot(`
      "4 ranks, medians in µs of 25 samples, slowest rank; round: 20 in one graph; store probe 349 GB/s
      theirs: FlashInfer MoeAlltoAll kernels (August 2026) called from C++ with PDL, 2026-11, scaled to this probe; ! over 1.15 × theirs
      shape     T                     dispatch  theirs  ratio    combine  theirs  ratio    round  theirs  ratio
      deepseek  0                          4.0       –      –        4.0       –      –      6.9     5.5  1.25×
      deepseek  0 (m 0)                      –       –      –          –       –      –      9.2     5.5  1.67× !
      deepseek  128                       25.0    26.1  0.96×       25.7    25.7  1.00×     48.0    41.2  1.17× !
      deepseek  128 idle: ranks 1, 3         –       –      –          –       –      –     39.3    39.3  1.00×
      deepseek  4096 idle: all ranks         –       –      –          –       –      –      5.0       –      –"
    `);
  });
});

describe("what the host takes", () => {
  it("stands below the table", () => {
    const host = { dispatch: 4.51, combine: 4.3, replay: 7 };
    expect(formatBench(figures, reference)).not.toContain("host");
    expect(
      formatBench({ ...figures, host }, reference)
        .split("\n")
        .at(-1),
    ).toBe("host, warm: dispatch 4.5, combine 4.3, replay of a round 7.0");
  });
});

describe("what is measured", () => {
  it("has every line of the reference", () => {
    const points = shapes.flatMap((shape) => pointsOf(shape, 4, 8192));
    for (const { shape, tokens, idle } of reference.rows) {
      expect(
        points.filter((p) => p.shape.name === shape && p.tokens === tokens && p.idle === idle),
      ).not.toEqual([]);
    }
    expect(points.filter((p) => p.tokens === 0).map((p) => p.slots)).toEqual([1, 0]);
  });

  it("fits one rank and fewer tokens", () => {
    const points = pointsOf(shapes[0]!, 1, 128);
    expect(points.map((p) => [p.tokens, p.slots, p.counts, p.idle])).toEqual([
      [0, 1, [0], undefined],
      [0, 0, [0], undefined],
      [1, 1, [1], undefined],
      ...[2, 4, 8, 16, 32, 64, 128].map((tokens) => [tokens, tokens, [tokens], undefined]),
      [128, 128, [0], "all ranks"],
    ]);
    expect(configOf(shapes[0]!, 1, 128)).toMatchObject({ maxDispatchBytesPerToken: 14_400, topK: 8 });
  });

  it("is reported by its median and its quantiles", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(quantile([0, 10], 0.99)).toBeCloseTo(9.9);
    expect(quantile([7], 0.99)).toBe(7);
  });

  it("names every line once", () => {
    const all = [...shapes, ...factors].flatMap((shape) => pointsOf(shape, 4, 8192));
    const names = all.map((p) => `${p.shape.name}/${p.tokens}/${p.slots}/${p.idle}`);
    expect(new Set(names).size).toBe(names.length);
  });

  it("is a floor of the bytes that go over the wire", () => {
    const row = { shape: "s", tokens: 1, slots: 1, round: 1 };
    expect(floorOf({ ...row, bytes: 350_000 }, { storeGBs: 350 })).toBe(1);
    expect(floorOf(row, { storeGBs: 350 })).toBeUndefined();
  });
});

describe("routing", () => {
  const ranks = 4;
  const tokens = 200;
  const rowsOf = (routing: Routing) => {
    const shape = { ...shapes[0]!, routing };
    const ids = Array.from({ length: ranks }, (_, r) => drawIds(shape, tokens, ranks, r, 1));
    return { shape, ids, rows: rowsBetween(shape, ids, new Array<number>(ranks).fill(tokens)) };
  };

  it.each(["random", "zipf", "hot", "local", "remote"] as const)(
    "%s: distinct experts that there are",
    (r) => {
      const { shape, ids } = rowsOf(r);
      for (const own of ids) {
        for (let at = 0; at < own.length; at += shape.topK) {
          const token = own.subarray(at, at + shape.topK);
          expect(new Set(token).size).toBe(shape.topK);
          expect(token.every((id) => id >= 0 && id < shape.experts)).toBe(true);
        }
      }
    },
  );

  it("random: about as many rows to each rank as chance has it", () => {
    // A token's 8 experts of 256 miss a rank of 64 with a chance of 9.5 %.
    for (const row of rowsOf("random").rows.flat()) expect(Math.abs(row / tokens - 0.905)).toBeLessThan(0.08);
  });

  it("local stays, remote goes, hot goes to rank 0", () => {
    const own = rowsOf("local").rows.map((row, r) => row.map((n, to) => (to === r ? n === tokens : n === 0)));
    expect(own.flat().every(Boolean)).toBe(true);
    for (const [r, row] of rowsOf("remote").rows.entries()) expect(row[r]).toBe(0);
    for (const row of rowsOf("hot").rows) expect(row[0]).toBe(tokens);
  });
});
