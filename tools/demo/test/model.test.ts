import { bfloat16ToFloat32, float32ToBfloat16 } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { Experts } from "../src/model/experts.js";
import { multiply, normalizeRows } from "../src/model/linear.js";
import { Mixer } from "../src/model/mixer.js";
import { Router } from "../src/model/router.js";
import type { ModelShape } from "../src/model/shape.js";
import { Tokens } from "../src/model/tokens.js";
import { createWeights, type LayerWeights, viewWeights } from "../src/model/weights.js";
import { Random } from "../src/random.js";

const shape: ModelShape = { layers: 2, hidden: 8, heads: 2, experts: 5, topK: 3, intermediate: 6 };
const [weights] = viewWeights(shape, createWeights(shape, 1)) as [LayerWeights];

function randomRows(rows: number, seed: number): Uint16Array {
  const values = new Float32Array(rows * shape.hidden);
  new Random(seed).fill(values, 2);
  return Uint16Array.from(values, float32ToBfloat16);
}

describe("weights", () => {
  it("depend on the seed alone, and differ everywhere", () => {
    const floats = (seed: number): Float32Array => new Float32Array(createWeights(shape, seed));
    expect(floats(1)).toEqual(floats(1));
    expect(floats(1)).not.toEqual(floats(2));
    const layers = viewWeights(shape, createWeights(shape, 1));
    expect(layers).toHaveLength(2);
    expect(layers[0]!.query).not.toEqual(layers[1]!.query);
    expect(layers[0]!.gateUp).toHaveLength(5 * 2 * 6 * 8);
    const used = layers.flatMap((layer) => Object.values(layer) as Float32Array[]);
    expect(used.reduce((sum, w) => sum + w.length, 0)).toBe(floats(1).length);
    for (const matrix of used) expect(matrix.filter((w) => w === 0).length).toBeLessThan(3);
  });
});

describe("multiply", () => {
  it("multiplies a matrix whose rows are no multiple of four", () => {
    const matrix = Float32Array.from({ length: 1 + 6 * 3 }, (_, i) => i);
    const out = new Float64Array(6);
    multiply(matrix, 1, 6, 3, Float64Array.of(1, 10, 100), out);
    expect([...out]).toEqual([321, 654, 987, 1320, 1653, 1986]);
  });
});

describe("normalizeRows", () => {
  it("scales each row to a root mean square of 1 and leaves later rows alone", () => {
    const rows = Uint16Array.from([3, 4, 30, 40, 5, 5], float32ToBfloat16);
    const out = new Uint16Array(6);
    normalizeRows(rows, 2, 2, out);
    const values = [...out].map(bfloat16ToFloat32);
    expect(values[0]).toBeCloseTo(0.8485, 2);
    expect(values[1]).toBeCloseTo(1.1313, 2);
    expect(values.slice(2)).toEqual([values[0], values[1], 0, 0]);
  });
});

describe("Mixer", () => {
  it("gives the same rows whether a prompt comes whole or in chunks with other work between", () => {
    const mixer = new Mixer(shape);
    const normalized = randomRows(5, 3);
    const whole = normalized.slice();
    const state = mixer.newState();
    for (let row = 0; row < 5; row++) mixer.token(weights, state, normalized, whole, row * shape.hidden);

    const chunked = normalized.slice();
    const [state2, other] = [mixer.newState(), mixer.newState()];
    for (let row = 0; row < 5; row++) {
      mixer.token(weights, state2, normalized, chunked, row * shape.hidden);
      mixer.token(weights, other, normalized, normalized.slice(), 0);
    }
    expect(chunked).toEqual(whole);
    expect(state2).toEqual(state);
  });

  it("remembers: a token's row depends on the tokens before it, and on none after it", () => {
    const mixer = new Mixer(shape);
    const run = (normalized: Uint16Array): Uint16Array => {
      const residual = new Uint16Array(normalized.length);
      const state = mixer.newState();
      for (let at = 0; at < normalized.length; at += shape.hidden) {
        mixer.token(weights, state, normalized, residual, at);
      }
      return residual;
    };
    const rows = randomRows(3, 4);
    const changed = rows.slice();
    changed.set(randomRows(1, 5), shape.hidden);
    const [a, b] = [run(rows), run(changed)];
    expect(b.subarray(0, 8)).toEqual(a.subarray(0, 8));
    expect(b.subarray(16)).not.toEqual(a.subarray(16));
  });
});

describe("Router", () => {
  const router = new Router(shape);

  it("chooses the experts with the largest logits, with weights that sum to 1", () => {
    const x = randomRows(4, 6);
    const ids = new Int32Array(3 + 4 * 3).fill(-1);
    const topWeights = new Float32Array(ids.length);
    for (let t = 0; t < 4; t++) router.route(weights, x, t * shape.hidden, ids, topWeights, 3 + t * 3);
    expect([...ids.subarray(0, 3)]).toEqual([-1, -1, -1]);
    for (let t = 0; t < 4; t++) {
      const logits = Array.from({ length: 5 }, (_, e) => {
        let sum = 0;
        for (let i = 0; i < 8; i++) sum += weights.router[e * 8 + i]! * bfloat16ToFloat32(x[t * 8 + i]!);
        return sum;
      });
      const order = [0, 1, 2, 3, 4].sort((a, b) => logits[b]! - logits[a]!).slice(0, 3);
      expect([...ids.subarray(3 + t * 3, 6 + t * 3)]).toEqual(order);
      const chosen = topWeights.subarray(3 + t * 3, 6 + t * 3);
      expect(chosen.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
      expect(chosen[0]! / chosen[1]!).toBeCloseTo(Math.exp(logits[order[0]!]! - logits[order[1]!]!), 4);
    }
  });

  it("takes the lower id of equals", () => {
    const ids = new Int32Array(3);
    router.route(weights, new Uint16Array(8), 0, ids, new Float32Array(3), 0);
    expect([...ids]).toEqual([0, 1, 2]);
  });
});

describe("Experts", () => {
  const experts = new Experts(shape);
  const x = randomRows(1, 7);
  const run = (ids: number[], topWeights: number[], start: number, end: number): Uint16Array => {
    const out = new Uint16Array(8).fill(0xffff);
    experts.run(weights, start, end, x, 0, Int32Array.from(ids), Float32Array.from(topWeights), 0, out, 0);
    return out;
  };

  it("computes a weighted SwiGLU network", () => {
    const value = [...x].map(bfloat16ToFloat32);
    const dot = (matrix: Float32Array, row: number, v: readonly number[]): number =>
      v.reduce((sum, vi, i) => sum + matrix[row * v.length + i]! * vi, 0);
    const inner = Array.from({ length: 6 }, (_, i) => {
      const gate = dot(weights.gateUp, 4 * 12 + i, value);
      return (gate / (1 + Math.exp(-gate))) * dot(weights.gateUp, 4 * 12 + 6 + i, value);
    });
    const expected = Array.from({ length: 8 }, (_, i) =>
      float32ToBfloat16(0.5 * dot(weights.down, 4 * 8 + i, inner)),
    );
    expect([...run([4, -1, -1], [0.5, 0, 0], 0, 5)]).toEqual(expected);
  });

  it("leaves out experts of other ranks and padding ids", () => {
    expect(run([1, 3, 4], [0.5, 0.3, 0.2], 3, 4)).toEqual(run([-1, 3, -1], [0, 0.3, 0], 0, 5));
    expect([...run([0, 1, 2], [0.5, 0.3, 0.2], 3, 5)]).toEqual(new Array(8).fill(0));
  });
});

describe("Tokens", () => {
  it("embeds by token and seed, and chooses the token whose logit is largest", () => {
    const tokens = new Tokens(8, 1);
    const row = (token: number, seed = 1): Uint16Array => {
      const out = new Uint16Array(10).fill(7);
      new Tokens(8, seed).embed(token, out, 1);
      expect([out[0], out[9]]).toEqual([7, 7]);
      return out.subarray(1, 9);
    };
    expect(row(5)).toEqual(row(5));
    expect(row(5)).not.toEqual(row(6));
    expect(row(5)).not.toEqual(row(5, 2));
    const choices = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const choice = tokens.choose(Int32Array.of(3, 5, 900), randomRows(1, seed), 0);
      expect([3, 5, 900]).toContain(choice);
      choices.add(choice);
    }
    expect(choices.size).toBeGreaterThan(1);
    expect(tokens.choose(Int32Array.of(3, 5), new Uint16Array(8), 0)).toBe(3);
  });
});
