import { openSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { writeFigures } from "./figures/write.js";
import { attackGroup, attackOne } from "./frames/attack.js";
import { Random } from "./frames/random.js";
import { record } from "./frames/record.js";
import { isChild, reportAlive, runChild, supervise } from "./supervise.js";

/** Growth of this process beyond which memory counts as unbounded, in bytes. */
const MAX_GROWTH = 512 * 2 ** 20;
/** A group of three is attacked once in so many times, as it takes that much longer. */
const GROUP_EVERY = 50;

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      frames: { type: "string", default: "10000000" },
      seconds: { type: "string", default: "600" },
      seed: { type: "string", default: "1" },
      first: { type: "string", default: "0" },
      json: { type: "string" },
      last: { type: "string" },
    },
  });
  const wanted = Number(values.frames);
  const seed = Number(values.seed);
  const last = values.last ? openSync(values.last, "w") : undefined;
  const problems: unknown[] = [];
  process.on("unhandledRejection", (error) => problems.push(error));
  process.on("uncaughtException", (error) => problems.push(error));

  const recordings = (await record()).map(({ frames }) => frames).filter((frames) => frames.length > 0);
  const recorded = recordings.reduce((sum, frames) => sum + frames.length, 0);
  const start = performance.now();
  let [frames, attacks, groups, most] = [0, 0, 0, 0];
  let baseline: number | undefined;
  let failed: { readonly attack: number; readonly error: unknown } | undefined;
  const seconds = (): number => (performance.now() - start) / 1000;
  for (let attack = Number(values.first); frames < wanted && seconds() < Number(values.seconds); attack++) {
    if (last !== undefined) writeSync(last, `frames --seed ${seed} --first ${attack}\n`.padEnd(80), 0);
    reportAlive();
    const random = new Random(seed * 1_000_003 + attack);
    const isGroup = attack % GROUP_EVERY === 0;
    try {
      frames += isGroup ? await attackGroup(random, recordings) : await attackOne(random, recordings, true);
      if (problems.length > 0) throw problems[0];
    } catch (error) {
      failed = { attack, error };
      break;
    }
    attacks++;
    if (isGroup) groups++;
    if (attacks % 1000 === 0) {
      const { rss } = process.memoryUsage();
      // What the engine needs to get going is not growth.
      if (attacks === 5000) baseline = rss;
      most = Math.max(most, rss);
      if (baseline !== undefined && rss > baseline + MAX_GROWTH) {
        failed = { attack, error: new Error(`memory has grown from ${baseline} to ${rss} bytes`) };
        break;
      }
    }
  }
  const rate = Math.round(frames / seconds());
  console.log(
    `frames: ${frames} frames in ${attacks} attacks (${groups} on groups of three, whose other ranks went on), ` +
      `${recordings.length} recordings of ${recorded} frames, seed ${seed}, ${seconds().toFixed(1)} s, ${rate} frames/s, ` +
      `at most ${Math.round(most / 2 ** 20)} MiB`,
  );
  writeFigures(values.json, {
    tool: "frames",
    ...{ frames, attacks, groups, recordings: recordings.length, recorded },
    ...{ seed, seconds: seconds(), mostBytes: most, failed: failed ? 1 : 0 },
  });
  if (failed) {
    console.log(`FAILED in attack ${failed.attack}: --seed ${seed} --first ${failed.attack}`);
    console.log(failed.error);
  }
  return failed === undefined && frames > 0;
}

if (isChild()) await runChild(main);
else process.exitCode = await supervise(new URL(import.meta.url), process.argv.slice(2));
