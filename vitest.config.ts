import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: ["packages/*", "tools/{bench,conformance,demo,docs,emulation,fuzz,gpu,model}"],
  },
});
