import { createRequire } from "node:module";
import type { Random } from "../frames/random.js";
import { Thrown, VALUES } from "../surface/values.js";

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
const MAKERS = { ...VALUES, ...OWN };

type Addon = Readonly<Record<string, unknown>>;

/** Where `npm run build:native` puts the addon, or another build of it. */
export function loadAddon(): Addon | undefined {
  const require = createRequire(import.meta.url);
  const file = process.env.MOE_A2A_FUZZ_ADDON ?? "../../../packages/cuda-linux-x64/moe_a2a.node";
  try {
    return require(file) as Addon;
  } catch (error) {
    if (process.env.MOE_A2A_FUZZ_ADDON) throw error;
    return undefined;
  }
}

/** Calls the addon's functions with anything at all. */
export class Caller {
  readonly functions: readonly string[];
  readonly #addon: Addon;
  readonly #random: Random;

  constructor(addon: Addon, random: Random) {
    this.#addon = addon;
    this.#random = random;
    this.functions = Object.getOwnPropertyNames(addon).filter((name) => typeof addon[name] === "function");
  }

  /**
   * @param about is told of the call before it is made
   * @returns what it came to
   * @throws where it came to something else than a value or an Error
   */
  call(about: (call: string) => void): string {
    const random = this.#random;
    const name = random.pick(this.functions);
    const chosen = Array.from({ length: random.below(9) }, () =>
      random.pick(Object.keys(random.below(2) === 0 ? OWN : MAKERS)),
    );
    about(`${name}(${chosen.join(", ")})`);
    const args = chosen.map((value) => MAKERS[value]!());
    try {
      (this.#addon[name] as (...all: unknown[]) => unknown)(...args);
      return "returned";
    } catch (error) {
      if (!(error instanceof Error)) throw new Error(`${name} threw no Error`, { cause: error });
      return error.constructor.name;
    }
  }
}
