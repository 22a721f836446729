import type { Options } from "tsup";

/** One ESM file with types per package: `require()` loads it too from Node 20.19 on, as nothing in it awaits at the top level. */
export const library: Options = {
  entry: ["src/index.ts"],
  format: ["esm"],
  target: "node20",
  platform: "node",
  dts: true,
  clean: false,
  sourcemap: true,
  treeshake: true,
};

/** Programs of this repository: no types, one file per entry. */
export const program: Options = {
  format: ["esm"],
  target: "node20",
  platform: "node",
  clean: true,
  sourcemap: true,
};
