import { defineConfig } from "vitest/config";

export default defineConfig({
  // Snippets are type-checked and run in processes, which takes seconds on a loaded machine.
  test: { testTimeout: 30_000 },
});
