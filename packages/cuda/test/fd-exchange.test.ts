import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

/** Built with the addon, where there is a compiler. */
const program = fileURLToPath(new URL("../build/test/fd_exchange_test", import.meta.url));

it.skipIf(!existsSync(program))("ranks give one another descriptors, and nobody else any", async () => {
  const { stdout } = await promisify(execFile)(program);
  expect(stdout).toBe("fd_exchange_test: ok\n");
});
