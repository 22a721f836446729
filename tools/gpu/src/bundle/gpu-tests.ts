import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "tsup";

/**
 * Builds the tests of packages/cuda that need a GPU for Node's own test runner, next to the package's copy, where they find
 * what they name by path.
 *
 * @returns how many files there are
 */
export async function buildGpuTests(root: string, copiedPackage: string): Promise<number> {
  const folder = join(root, "packages/cuda/test/gpu");
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith(".test.ts")) : [];
  const target = join(copiedPackage, "test/gpu");
  mkdirSync(target, { recursive: true });
  const workers = join(root, "packages/cuda/test/workers");
  if (existsSync(workers)) cpSync(workers, join(copiedPackage, "test/workers"), { recursive: true });
  if (files.length === 0) return 0;
  // Sources that get into a test look for their version one folder up.
  const { version } = JSON.parse(readFileSync(join(copiedPackage, "package.json"), "utf8"));
  const manifest = { name: "gpu-tests", version, type: "module" };
  writeFileSync(join(copiedPackage, "test/package.json"), JSON.stringify(manifest));
  await build({
    config: false,
    entry: files.map((file) => join(folder, file)),
    outDir: target,
    format: ["esm"],
    target: "node20",
    platform: "node",
    silent: true,
    // "node:test" has no other name.
    removeNodeProtocol: false,
    external: [/^@moe-a2a\//],
    noExternal: [/^vitest$/, /^@vitest\//, /^fast-check$/],
    esbuildOptions(options) {
      options.alias = { vitest: join(root, "tools/gpu/src/bundle/vitest-shim.ts") };
    },
  });
  return files.length;
}
