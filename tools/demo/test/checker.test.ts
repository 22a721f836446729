import { bfloat16ToFloat32, float32ToBfloat16 } from "@moe-a2a/core";
import { beforeEach, describe, expect, it } from "vitest";
import { Experts } from "../src/model/experts.js";
import { Router } from "../src/model/router.js";
import { createWeights, type LayerWeights, viewWeights } from "../src/model/weights.js";
import { Random } from "../src/random.js";
import { Checker, type RoutedRows } from "../src/rank/checker.js";

const shape = { layers: 1, hidden: 8, heads: 2, experts: 5, topK: 3, intermediate: 6 };
const [weights] = viewWeights(shape, createWeights(shape, 1)) as [LayerWeights];
const place = { rank: 1, step: 2, layer: 0 };

/** Rows as they are sent, routed. */
function routed(rows: number): RoutedRows {
  const values = new Float32Array(rows * shape.hidden);
  new Random(9).fill(values, 2);
  const hidden = Uint16Array.from(values, float32ToBfloat16);
  const ids = new Int32Array(rows * shape.topK);
  const topWeights = new Float32Array(rows * shape.topK);
  const router = new Router(shape);
  for (let t = 0; t < rows; t++)
    router.route(weights, hidden, t * shape.hidden, ids, topWeights, t * shape.topK);
  return { hidden, ids, topWeights };
}

/** What combine gives on two ranks, which own experts 0…2 and 3…4. */
function combined({ hidden, ids, topWeights }: RoutedRows, rows: number): Uint16Array {
  const experts = new Experts(shape);
  const out = new Uint16Array(rows * shape.hidden);
  const partials = [new Uint16Array(shape.hidden), new Uint16Array(shape.hidden)];
  for (let t = 0; t < rows; t++) {
    const [at, offset] = [t * shape.topK, t * shape.hidden];
    experts.run(weights, 0, 3, hidden, offset, ids, topWeights, at, partials[0]!, 0);
    experts.run(weights, 3, 5, hidden, offset, ids, topWeights, at, partials[1]!, 0);
    for (let i = 0; i < shape.hidden; i++) {
      // The owners' results of a token with one owner include a zero that changes nothing.
      const [a, b] = partials.map((p) => bfloat16ToFloat32(p[i]!));
      out[offset + i] = float32ToBfloat16(Math.fround(Math.fround(0 + a!) + b!));
    }
  }
  return out;
}

let checker: Checker;
beforeEach(() => {
  checker = new Checker(shape, 2);
});

describe("Checker.combined", () => {
  const rows = routed(6);
  const good = combined(rows, 6);

  it("accepts what two owners' sums make", () => {
    checker.combined(place, weights, rows, 6, good);
    expect(checker).toMatchObject({ mismatches: 0, compared: 6, first: undefined });
  });

  it("counts each row with a wrong bit, and tells of the first", () => {
    const bad = good.slice();
    bad[9] = bad[9]! ^ 1;
    bad[10] = bad[10]! ^ 1;
    bad[5 * 8 + 7] = bad[5 * 8 + 7]! ^ 0x8000;
    checker.combined(place, weights, rows, 6, bad);
    expect(checker.mismatches).toBe(2);
    expect(checker.first).toMatch(
      /^rank 1, step 2, layer 0: token 1, element 1 combined to 0x[\da-f]{4}, not 0x[\da-f]{4}$/,
    );
  });

  it("notices rows that are missing", () => {
    checker.combined(place, weights, rows, 6, good.subarray(0, 40));
    expect(checker.mismatches).toBe(1);
  });

  it("has nothing to compare on a rank without tokens", () => {
    checker.combined(place, weights, rows, 0, new Uint16Array(0));
    expect(checker).toMatchObject({ mismatches: 0, compared: 0 });
  });
});

describe("Checker.received", () => {
  const own = { start: 0, end: 5 };
  /** Two ranks of three slots; one row came from rank 0, two from rank 1. */
  const counts = Int32Array.of(1, 2);
  const slots = (): RoutedRows => {
    const rows = routed(6);
    rows.ids.fill(-1, 3, 9);
    rows.ids.fill(-1, 15);
    return rows;
  };

  it("accepts rows with their own ids, and padding without any", () => {
    checker.received(place, weights, slots(), counts, 3, own);
    expect(checker).toMatchObject({ mismatches: 0, compared: 3 });
  });

  it("notices a wrong id, weight or row", () => {
    const rows = slots();
    rows.ids[0] = (rows.ids[0]! + 1) % 5;
    rows.topWeights[9] = rows.topWeights[9]! * 1.01;
    rows.hidden.copyWithin(4 * 8, 0, 8);
    checker.received(place, weights, rows, counts, 3, own);
    expect(checker.mismatches).toBe(3);
    expect(checker.first).toContain("slot 0 from rank 0 has ids or weights that are not its row's");
  });

  it("notices a row for other ranks, and padding that names an expert", () => {
    const rows = slots();
    rows.ids[4] = 2;
    checker.received(place, weights, rows, counts, 3, { start: 7, end: 8 });
    expect(checker.mismatches).toBe(4);
    expect(checker.first).toContain("slot 0 from rank 0 has no expert of this rank");
  });

  it("accepts a step in which nobody sends anything", () => {
    const none = { hidden: new Uint16Array(0), ids: new Int32Array(0), topWeights: new Float32Array(0) };
    checker.received(place, weights, none, Int32Array.of(0, 0), 0, own);
    expect(checker).toMatchObject({ mismatches: 0, compared: 0 });
  });
});
