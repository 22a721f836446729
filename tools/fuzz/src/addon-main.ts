import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { Random } from "./frames/random.js";
import { isChild, reportAlive, runChild, supervise } from "./supervise.js";
import { prepareValues, Thrown, VALUES } from "./surface/values.js";

/** Arguments of the addon's own kinds, some of them right, so that calls come further than their first check. */
const OWN: Readonly<Record<string, () => unknown>> = {
  device: () => 0,
  rank: () => 1,
  handle: () => 0n,
  config: () => Int32Array.of(2, 4, 2, 8, 64, 64, 0, 0, 1, 2),
  words: () => new Uint32Array(8),
  handles: () => new BigUint64Array(4),
  doubles: () => new Float64Array(128),
  block: () => new ArrayBuffer(4096),
  names: () => ["moe-a2a-x", "moe-a2a-y"],
  badNames: () =>
    Object.defineProperty([], 0, {
      get: () => {
        throw new Thrown("a name");
      },
    }),
  lyingNames: () => new Proxy(["a"], { get: (_, key) => (key === "length" ? 64 : Symbol("name")) }),
  tokens: () => new Uint8Array(64),
};

/** Where `npm run build:native` puts the addon, or another build of it. */
function load(): Record<string, unknown> | undefined {
  const require = createRequire(import.meta.url);
  const file = process.env.MOE_A2A_FUZZ_ADDON ?? "../../../packages/cuda-linux-x64/moe_a2a.node";
  try {
    return require(file) as Record<string, unknown>;
  } catch (error) {
    if (process.env.MOE_A2A_FUZZ_ADDON) throw error;
    return undefined;
  }
}

/** Calls the addon's functions with anything at all; they have to throw an Error or return. */
async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      calls: { type: "string", default: "200000" },
      seed: { type: "string", default: "1" },
      last: { type: "string" },
    },
  });
  const addon = load();
  if (!addon) {
    console.log("addon: not built here (npm run build:native builds it)");
    return true;
  }
  const { deviceCount } = (addon.platform as () => { deviceCount: number })();
  if (deviceCount > 0) {
    console.log("addon: handles of streams are the driver's, so it is only called where there is no GPU");
    return true;
  }
  await prepareValues();
  // A listener that throws is the caller's own doing.
  for (const event of ["unhandledRejection", "uncaughtException"]) {
    process.on(event, (error) => {
      if (error instanceof Thrown) return;
      console.log("FAILED:", error);
      process.exit(1);
    });
  }
  const makers = { ...VALUES, ...OWN };
  const names = Object.keys(makers);
  const random = new Random(Number(values.seed));
  const last = values.last ? openSync(values.last, "w") : undefined;
  const functions = Object.getOwnPropertyNames(addon).filter((name) => typeof addon[name] === "function");
  const outcomes = new Map<string, number>();
  for (let call = 0; call < Number(values.calls); call++) {
    const name = random.pick(functions);
    const chosen = Array.from({ length: random.below(9) }, () =>
      random.pick(random.below(2) === 0 ? Object.keys(OWN) : names),
    );
    if (last !== undefined) writeSync(last, `${name}(${chosen.join(", ")})`.padEnd(300), 0);
    reportAlive();
    const args = chosen.map((value) => makers[value]!());
    let outcome = "returned";
    try {
      (addon[name] as (...all: unknown[]) => unknown)(...args);
    } catch (error) {
      if (!(error instanceof Error)) throw new Error(`${name} threw no Error`, { cause: error });
      outcome = error.constructor.name;
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    // What takes time is told by a turn of its own.
    if (call % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const each = [...outcomes].map(([outcome, count]) => `${outcome} ${count}`).join(", ");
  console.log(`addon: ${values.calls} calls of ${functions.length} functions, seed ${values.seed}: ${each}`);
  return true;
}

if (isChild()) await runChild(main);
else process.exitCode = await supervise(new URL(import.meta.url), process.argv.slice(2));
