import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const packages = fileURLToPath(new URL("../../", import.meta.url));

const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string };

/** A manifest for an `@moe-a2a/cuda` whose entry is index.js. */
export const CUDA_MANIFEST: string = JSON.stringify({
  name: "@moe-a2a/cuda",
  version,
  type: "module",
  exports: { ".": "./index.js", "./package.json": "./package.json" },
});

export interface Installation {
  /** Runs a program in a process of its own; resolves with the JSON that it prints. */
  run(program: string): Promise<unknown>;
  remove(): Promise<void>;
}

/** A project with the built package installed, and with `@moe-a2a/cuda` where its files are given. */
export async function install(cuda?: Readonly<Record<string, string>>): Promise<Installation> {
  const root = await mkdtemp(join(tmpdir(), "moe-a2a-sglang-"));
  const scope = join(root, "node_modules", "@moe-a2a");
  await mkdir(scope, { recursive: true });
  await symlink(join(packages, "core"), join(scope, "core"), "dir");
  await symlink(join(packages, "js"), join(scope, "js"), "dir");
  // A copy: Node resolves from a module's real place, which must be this project.
  for (const part of ["dist", "package.json"]) {
    await cp(join(packages, "sglang", part), join(scope, "sglang", part), { recursive: true });
  }
  for (const [name, text] of Object.entries(cuda ?? {})) {
    const path = join(scope, "cuda", name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
  let programs = 0;
  return {
    run: async (program) => {
      const file = join(root, `program-${programs++}.mjs`);
      await writeFile(file, program);
      // Wrappers of this process may have it look for packages in more places than the project.
      const { NODE_PATH: _, ...env } = process.env;
      const { stdout } = await run(process.execPath, [file], { cwd: root, env });
      return JSON.parse(stdout);
    },
    remove: () => rm(root, { recursive: true, force: true }),
  };
}
