import { defineConfig } from "vitest/config";

export default defineConfig({
  // Some tests start processes and threads, which takes seconds on a loaded machine.
  test: { testTimeout: 30_000 },
});
