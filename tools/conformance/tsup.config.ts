import { defineConfig } from "tsup";
import { program } from "../../tsup.base.js";

export default defineConfig({
  ...program,
  entry: [
    "src/main.ts",
    "src/worker.ts",
    "src/process.ts",
    "src/faults/main.ts",
    "src/soak-main.ts",
    "src/soak-worker.ts",
    "src/soak-process.ts",
    "src/index.ts",
  ],
});
