import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: ["packages/*", "tools/{conformance,demo,docs,gpu,model}"],
  },
});
