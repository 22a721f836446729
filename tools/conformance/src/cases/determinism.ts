import { createHash } from "node:crypto";
import type { CombineDType, MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { check, same } from "../check.js";
import { Random } from "../random.js";
import { each, setUp, sleep } from "./common.js";

const ranks = 4;

/** Plays rounds and hashes every byte that they define on this rank. */
async function transcript(
  context: Context,
  a2a: MoeAllToAll,
  { round }: ReturnType<typeof setUp>,
  pass: number,
): Promise<string> {
  const hash = createHash("sha256");
  // Each pass at other times, from other memory, in other ways to play.
  const timing = new Random("timing", pass, context.rank);
  for (let turn = 0; turn < 12; turn++) {
    const spec = round(
      each(ranks, 0).map((_, r) => (r * 3 + turn * 5) % 6),
      {
        routing: turn % 2 ? "padded" : "distinct",
        stats: 3,
        invalidTokenExpertId: -9,
        values: turn % 3 ? "spread" : "bits",
      },
    );
    // The same rounds in every pass: the key of a round is its seed.
    const made = context.round(turn, spec);
    if (timing.oneIn(3)) await sleep(timing.int(0, 3));
    const flight = await context.launch(a2a, made, {
      memory: timing.pick(["empty", "foreign"] as const),
      inPlace: timing.oneIn(2),
      out: timing.oneIn(2),
      sync: context.canBlock && timing.oneIn(2),
    });
    await flight.arrive();
    const counts = (await a2a.read(flight.dispatch.recvCounts)) as Int32Array;
    hash.update(counts);
    hash.update((await a2a.read(flight.dispatch.expertStats!)) as Int32Array);
    for (const recv of flight.dispatch.recv) {
      const data = await a2a.read(recv);
      const row = data.length / ranks / made.slots;
      counts.forEach((count, s) => {
        hash.update(data.subarray(s * made.slots * row, (s * made.slots + count) * row) as Uint8Array);
      });
    }
    if (timing.oneIn(3)) await sleep(timing.int(0, 3));
    await flight.offer();
    await flight.finish();
    const output = await a2a.read(flight.combine!.output);
    const nan = (x: number): boolean => (x & 0x7fff) > 0x7f80;
    hash.update((output as Uint16Array).map((x) => (nan(x) ? 0x7fc0 : x)));
  }
  return hash.digest("hex");
}

const sameTwice: RankCase = (() => {
  const dtype: CombineDType = "bfloat16";
  const setup = setUp({ ranks, tokens: 6, experts: 10, topK: 5, hidden: 12, dtype, maxExpertStats: 3 });
  return {
    name: "determinism: the same input twice gives the same bytes, whenever the ranks come",
    ranks,
    config: setup.config,
    async run(context) {
      const hashes: string[] = [];
      for (const pass of [0, 1, 2]) {
        const a2a = await context.create();
        hashes.push(await transcript(context, a2a, setup, pass));
      }
      same("bytes of the second pass", hashes[1], hashes[0]);
      same("bytes of the third pass", hashes[2], hashes[0]);
      const all = await context.gather(hashes[0]);
      check(new Set(all).size > 1, "all ranks received the same bytes, so the comparison shows nothing");
    },
  };
})();

export const determinism: readonly RankCase[] = [sameTwice];
