import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const built = (name: string) => fileURLToPath(new URL(`../dist/${name}.js`, import.meta.url));

// What a program imports is put together when it is built: that can fail where its sources run.
it.each(["bundle-main", "report-main", "run-main", "bench-main"])("%s starts as built", (name) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [built(name), "--help"], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  expect(stdout).not.toBe("");
});
