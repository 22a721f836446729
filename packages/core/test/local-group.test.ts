import { describe, expect, it } from "vitest";
import { createLocalGroup, type Group } from "../src/index.js";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("local group", () => {
  it("all-gathers by rank, whatever the order of the calls", async () => {
    const groups = createLocalGroup(4);
    const results: (readonly Uint8Array[])[] = [];
    await Promise.all(
      [2, 0, 3, 1].map(async (r) => (results[r] = await groups[r]!.exchange("k", Uint8Array.of(r)))),
    );
    for (const result of results) expect(result).toEqual([0, 1, 2, 3].map((r) => Uint8Array.of(r)));
  });

  it("pairs calls with one key by their order, and keeps keys apart", async () => {
    const [a, b] = createLocalGroup(2) as [Group, Group];
    const fromA = ["x", "y", "x"].map((key, i) => a.exchange(key, bytes(`a${i}`)));
    const fromB = ["y", "x", "x"].map((key, i) => b.exchange(key, bytes(`b${i}`)));
    const decode = (values: readonly Uint8Array[]) => values.map((value) => new TextDecoder().decode(value));
    expect((await Promise.all(fromA)).map(decode)).toEqual([
      ["a0", "b1"],
      ["a1", "b0"],
      ["a2", "b2"],
    ]);
    expect((await Promise.all(fromB)).map(decode)).toEqual([
      ["a1", "b0"],
      ["a0", "b1"],
      ["a2", "b2"],
    ]);
  });

  it("takes the value as it was at the call, and hands out copies", async () => {
    const [a, b] = createLocalGroup(2) as [Group, Group];
    const mine = Uint8Array.of(1, 2);
    const pending = a.exchange("k", mine);
    mine.fill(9);
    const seenByB = await b.exchange("k", Uint8Array.of(3));
    (seenByB[0] as Uint8Array).fill(7);
    expect((await pending)[0]).toEqual(Uint8Array.of(1, 2));
  });

  it("copies Buffers too, and counts no call whose value cannot be read", async () => {
    const [a, b] = createLocalGroup(2) as [Group, Group];
    const mine = Buffer.from("mine");
    const pending = a.exchange("k", mine);
    mine.fill(0);
    const seen = await b.exchange("k", Buffer.from("b"));
    expect(new TextDecoder().decode(seen[0])).toBe("mine");
    expect((await pending)[0]).not.toBe(seen[0]);
    const gone = new Uint8Array(4);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    await expect(a.exchange("k", gone)).rejects.toThrowError(TypeError);
    const again = [a.exchange("k", bytes("a")), b.exchange("k", bytes("b"))];
    expect(await again[0]).toEqual(await again[1]);
  });

  it("refuses keys that have no UTF-8", async () => {
    const [a] = createLocalGroup(1);
    const refused = expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: "key" });
    await expect(a!.exchange("\ud800", new Uint8Array(1))).rejects.toEqual(refused);
    await expect(a!.exchange("\ud83d\ude00", new Uint8Array(1))).resolves.toHaveLength(1);
  });

  it("fails on all ranks that wait when one gives up, and works again at the next call", async () => {
    const groups = createLocalGroup(3);
    const waiting = [
      groups[0]!.exchange("k", bytes("a"), { timeoutMs: 100 }),
      groups[1]!.exchange("k", bytes("b"), { timeoutMs: 60_000 }),
    ];
    for (const result of await Promise.allSettled(waiting)) {
      expect(result).toMatchObject({
        status: "rejected",
        reason: { code: "ERR_MOE_A2A_PEER_TIMEOUT", missingRanks: [2], kind: "timeout", phase: "exchange" },
      });
    }
    await expect(groups[2]!.exchange("k", bytes("c"))).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      missingRanks: [2],
      message: expect.stringMatching(/rank 2 did not arrive within 100 ms.*\(as rank [01] found\)/),
    });
    const again = await Promise.all(groups.map((group, r) => group.exchange("k", Uint8Array.of(r))));
    expect(again[1]).toHaveLength(3);
  });

  it("tells who waits at once when a rank closes; values that it gave stay good", async () => {
    const [a, b, c] = createLocalGroup(3) as [Group, Group, Group];
    const given = [a.exchange("k", bytes("a")), c.exchange("k", bytes("c"))];
    const lacking = a.exchange("other", bytes("a"));
    const rejected = expect(lacking).rejects.toMatchObject({ kind: "closed", missingRanks: [2] });
    const own = expect(given[1]).rejects.toMatchObject({ code: "ERR_MOE_A2A_STATE" });
    await c.close();
    await c.close();
    await rejected;
    await own;
    expect(await b.exchange("k", bytes("b"))).toHaveLength(3);
    expect(await given[0]).toHaveLength(3);
    await expect(c.exchange("k", bytes("c"))).rejects.toMatchObject({
      code: "ERR_MOE_A2A_STATE",
      state: "closed",
    });
    await expect(a.exchange("third", bytes("a"))).rejects.toMatchObject({
      kind: "closed",
      missingRanks: [2],
    });
  });

  it("checks its arguments", async () => {
    const [group] = createLocalGroup(1) as [Group];
    await expect(group.exchange(3 as never, bytes(""))).rejects.toThrowError(/the key is 3, not a string/);
    await expect(group.exchange("k", "text" as never)).rejects.toThrowError(
      /the value is "text", not a Uint8Array/,
    );
    await expect(group.exchange("k", bytes(""), { timeoutMs: 0 })).rejects.toThrowError(
      /options\.timeoutMs is 0/,
    );
    await expect(group.exchange("k", bytes("alone"))).resolves.toEqual([bytes("alone")]);
    for (const size of [0, 65, 1.5, "2", undefined]) {
      expect(() => createLocalGroup(size as never)).toThrowError(/must be an integer from 1 to 64/);
    }
  });
});
