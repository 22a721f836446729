import { defineConfig } from "tsup";
import { program } from "../../tsup.base.js";

export default defineConfig({
  ...program,
  // Only the bundler asks for it, and never leaves this repository.
  external: ["tsup"],
  entry: [
    "src/report-main.ts",
    "src/run-main.ts",
    "src/bundle-main.ts",
    "src/bench/bench-main.ts",
    "src/bench/bench-worker.ts",
  ],
});
