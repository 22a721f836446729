import type { CpuTensor, DispatchInput } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import type * as Suite from "../src/index.js";
import { type Mutation, mutant, properly, towardZero } from "./mutants.js";

const { applies, cases, loadBackend, Runner }: typeof Suite = await import(
  new URL("../dist/index.js", import.meta.url).href
);

/** Runs cases against the js backend with one thing wrong; returns what the suite reports. */
async function reported(mutation: Mutation, ...names: readonly string[]): Promise<readonly string[]> {
  const target = mutant(await loadBackend("js"), mutation);
  const runner = new Runner({ target, kind: "local", rounds: 200 });
  const reports: string[] = [];
  for (const name of names) {
    const chosen = cases.filter((c) => c.name.includes(name) && applies(c, target, "local"));
    expect(chosen, `cases named "${name}"`).not.toHaveLength(0);
    for (const c of chosen) reports.push((await runner.run(c)).failure ?? "passed");
  }
  await runner.close();
  return reports;
}

/** Expects each of the cases to fail, for a reason that names what is wrong. */
async function notices(mutation: Mutation, reason: RegExp, ...names: readonly string[]): Promise<void> {
  const reports = await reported(mutation, ...names);
  for (const report of reports) expect(report).toMatch(reason);
}

const bytesOf = ({ data }: CpuTensor) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

const busy = "zero tokens: alternating";

describe("the suite passes the backend through an empty wrapper", () => {
  it("and so what it notices below is the mutation", async () => {
    const reports = await reported(
      { round: properly, arrived: () => undefined, failure: (error) => error },
      busy,
      "ids: ",
      "combine: ",
      "faults: a rank that never",
      "rows: 3 payloads",
      "properties: ",
    );
    expect(reports.filter((report) => report !== "passed")).toEqual([]);
  }, 60_000);
});

describe("the suite notices", () => {
  it("one byte that differs", async () => {
    const arrived: Mutation["arrived"] = ({ recv, recvCounts }) => {
      if (recvCounts.data[0] === 0) return;
      bytesOf(recv[0]!)[3]! ^= 0x40;
    };
    await notices(
      { arrived },
      /recv\[0\] slot \[0, 0\] byte 3: expected 0x.., got 0x../,
      busy,
      "ids: padding -1",
    );
  });

  it("two slots that changed places", async () => {
    const arrived: Mutation["arrived"] = ({ recv, recvCounts }) => {
      const source = recvCounts.data.findIndex((count) => Number(count) >= 2);
      if (source < 0) return;
      for (const t of recv) {
        const bytes = bytesOf(t);
        const row = bytes.length / t.shape[0]! / t.shape[1]!;
        const at = source * t.shape[1]! * row;
        const first = bytes.slice(at, at + row);
        bytes.copyWithin(at, at + row, at + 2 * row);
        bytes.set(first, at + row);
      }
    };
    await notices({ arrived }, /recv\[0\] slot \[\d, [01]\] byte/, busy, "properties: ");
  });

  it("a count that is wrong", async () => {
    const arrived: Mutation["arrived"] = ({ recvCounts }) => {
      recvCounts.data[0]!++;
    };
    await notices({ arrived }, /recvCounts byte 0/, busy, "zero tokens: an idle rank");
  });

  it("ids of padding slots that were not sanitised", async () => {
    const input = ({ expertIdPayloadIndex: _, ...rest }: DispatchInput<CpuTensor>) => rest;
    await notices(
      { input },
      /recv\[1\] slot .* \(padding\) byte/,
      "ids: padding slots of the named payload hold -3",
    );
  });

  it("a wrong id in padding slots", async () => {
    const input = (given: DispatchInput<CpuTensor>) => ({ ...given, invalidTokenExpertId: -2 });
    await notices(
      { input },
      /\(padding\) byte/,
      "ids: padding slots of the named payload hold -1 by default",
    );
  });

  it("statistics that are missing or wrong", async () => {
    const lists = "statistics: 32 values";
    const input = ({ expertStats: _, ...rest }: DispatchInput<CpuTensor>) => rest;
    await notices({ input }, /expertStats are missing/, lists);
    const arrived: Mutation["arrived"] = ({ expertStats }) => expertStats?.data.fill(0 as never);
    await notices({ arrived }, /expertStats byte/, lists);
  });

  it("a report that is wrong", async () => {
    const report: Mutation["report"] = (r) => ({ ...r, droppedEntries: { ...r.droppedEntries, padding: 0 } });
    await notices({ report }, /report: expected .*"padding":[1-9]/, "ids: padding -1");
    await notices({ report: (r) => ({ ...r, tokensSent: r.tokensSent + 1 }) }, /report: expected/, busy);
    const waits = "waits: reports point at the rank that is late, each in turn";
    const said: Mutation["report"][] = [
      (r) => ({ ...r, waitMs: r.waitMs.map(() => 0) }),
      // The next rank's, where that is not this rank itself.
      (r) => ({
        ...r,
        waitMs: r.waitMs.map((ms, i, all) => (ms === 0 ? 0 : all[(i + 1) % 4] || all[(i + 2) % 4]!)),
      }),
    ];
    for (const report of said) await notices({ report }, /came 120 ms late|was the last/, waits);
  });

  it("sums in another order", async () => {
    // The same tokens to the same slots, but the entries of each token backwards.
    const input = (given: DispatchInput<CpuTensor>): DispatchInput<CpuTensor> => {
      const ids = given.tokenSelectedExperts;
      const [tokens, K] = ids.shape as [number, number];
      const data = ids.data.slice() as Int32Array;
      for (let t = 0; t < tokens; t++) data.subarray(t * K, (t + 1) * K).reverse();
      return { ...given, tokenSelectedExperts: { ...ids, data } };
    };
    await notices(
      { input },
      /output token \d element \d+/,
      "combine: float32, values",
      "combine: float16, values",
      "combine: bfloat16, values",
      "does not: ascending k",
    );
  });

  it("rounding toward zero", async () => {
    await notices(
      { round: towardZero },
      /output token/,
      "combine: bfloat16, values",
      "just above a tie rounds up",
    );
  });

  it("ties that go away from even", async () => {
    const round: Mutation["round"] = (sums, dtype) => {
      const away = sums.map((x) => x * (1 + 2 ** -23));
      return properly(away, dtype);
    };
    await notices(
      { round },
      /output token/,
      "combine: bfloat16 256 + 1 is a tie",
      "combine: float16 2048 + 1 is a tie",
    );
  });

  it("a -0 that stays", async () => {
    const round: Mutation["round"] = (sums, dtype) =>
      properly(
        sums.map((x) => (x === 0 ? -0 : x)),
        dtype,
      );
    await notices({ round }, /output token/, "combine: a single -0 sums to +0");
  });

  it("subnormals flushed to zero", async () => {
    const smallest = { float32: 2 ** -126, bfloat16: 2 ** -126, float16: 2 ** -14 };
    const round: Mutation["round"] = (sums, dtype) =>
      properly(
        sums.map((x) => (Math.abs(x) < smallest[dtype] ? 0 : x)),
        dtype,
      );
    await notices(
      { round },
      /output token/,
      "float16 subnormals add up",
      "bfloat16 subnormals add up",
      "float32 subnormals",
    );
  });

  it("saturation in place of overflow", async () => {
    const largest = { float32: 3.4028234663852886e38, bfloat16: 3.3895313892515355e38, float16: 65504 };
    const round: Mutation["round"] = (sums, dtype) =>
      properly(
        sums.map((x) => Math.max(-largest[dtype], Math.min(largest[dtype], x))),
        dtype,
      );
    await notices({ round }, /output token/, "65504 + 16 overflows", "float32 overflows", "is -infinity");
  });

  it("failures that pass for success", async () => {
    await notices(
      { failure: () => undefined },
      /expected ERR_MOE_A2A|but it came to|but the promise resolved/,
      "faults: a rank that never dispatches",
      "disagreement: row bytes, with idle ranks",
    );
  });

  it("another rank accused", async () => {
    const failure: Mutation["failure"] = (error) => Object.assign(error as object, { missingRanks: [0] });
    await notices(
      { failure },
      /missingRanks: expected \[2\], got \[0\]/,
      "faults: a rank that never dispatches",
    );
  });

  it("a failed output that looks good", async () => {
    const spoiled = (out: CpuTensor) => void out.data.fill(0 as never);
    await notices(
      { spoiled },
      /out of a failed combine element 0: expected NaN/,
      "faults: a rank that never combines",
    );
  });

  it("instances that are never let go", async () => {
    const kept: unknown[] = [];
    await notices(
      { created: (a2a) => kept.push(a2a) },
      /memory in use grew by \d+ bytes/,
      "rounds: create and close",
    );
  }, 30_000);

  it("rejections that nobody handles", async () => {
    const created: Mutation["created"] = (a2a) => {
      if (a2a.epRank === 0) void Promise.reject(new Error("nobody looks here"));
    };
    const listeners = process.listeners("unhandledRejection");
    process.removeAllListeners("unhandledRejection");
    try {
      await notices({ created }, /unhandled rejection: Error: nobody looks here/, busy);
    } finally {
      for (const listener of listeners) process.on("unhandledRejection", listener);
    }
  });
});

describe("a random world that fails", () => {
  it("is reported with its seed, and shrunk", async () => {
    const arrived: Mutation["arrived"] = ({ recv, recvCounts }) => {
      if (recvCounts.data[0] !== 0) bytesOf(recv[0]!)[0]! ^= 1;
    };
    const [report] = await reported({ arrived }, "properties: ");
    expect(report).toMatch(/seed: 1\b/);
    expect(report).toMatch(/Shrunk [1-9]\d* time/);
    expect(report).toMatch(/recv\[0\] slot \[0, 0\] byte 0/);
    expect(report).toContain('"ranks":1,');
  }, 60_000);
});
