import { defineConfig } from "tsup";
import { program } from "../../tsup.base.js";

export default defineConfig({
  ...program,
  // Only the bundler asks for them, and never leaves this repository.
  external: ["tsup", "typescript"],
  // By name, so that all end up side by side.
  entry: {
    "report-main": "src/report-main.ts",
    "run-main": "src/run-main.ts",
    "bundle-main": "src/bundle-main.ts",
    "bench-main": "src/bench/bench-main.ts",
    "bench-worker": "src/bench/bench-worker.ts",
  },
});
