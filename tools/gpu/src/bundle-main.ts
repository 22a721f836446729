import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildGpuTests } from "./bundle/gpu-tests.js";
import { buildPrograms, compressedNode, run } from "./bundle/native.js";
import { PackageTree } from "./bundle/packages.js";
import { addSnippets } from "./bundle/snippets.js";
import { hashSources } from "./hash.js";

const help = `Makes one folder that runs everything on a GPU host without Node, registry or compiler.

  npm run gpu:bundle -- [options]

  --out FOLDER       default .gpu-bundle, which git ignores
  --architecture N   of the test programs and the probe; default 90
  --help             this text

There: sh FOLDER/run.sh --help`;

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Unpacks next to where it runs, once, and starts the runner with the bundle's own Node. */
const RUN_SH = `#!/bin/sh
# Runs this bundle; --help tells how.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=\${MOE_A2A_WORK:-/tmp/moe-a2a-$(cksum <"$here/manifest.json" | tr ' ' '-')}
if [ ! -e "$work/done" ]; then
  mkdir -p "$work"
  unxz() {
    if command -v xz >/dev/null; then xz -dc "$1"; else
      python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
    fi
  }
  unxz "$here/app.tar.xz" | tar -xf - -C "$work"
  unxz "$here/node.xz" >"$work/node"
  chmod +x "$work/node"
  touch "$work/done"
fi
exec "$work/node" "$work/app/tools/gpu/dist/run-main.js" --bundle "$work" "$@"
`;

/** Commit, with a "+" where anything but reports was changed since. */
function revision(): string {
  const git = (...args: string[]) =>
    spawnSync("git", args, { cwd: root, encoding: "utf8" }).stdout?.trim() ?? "";
  const changed = git("status", "--porcelain", "--untracked-files=no");
  return `${git("rev-parse", "--short=12", "HEAD") || "unknown"}${changed ? "+" : ""}`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: join(root, ".gpu-bundle") },
      architecture: { type: "string", default: "90" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  const addon = join(root, "packages/cuda-linux-x64/moe_a2a.node");
  if (!existsSync(addon)) throw new Error("there is no addon: the build of packages/cuda made none");
  const cache = join(root, "tools/gpu/build");
  const stage = join(cache, "stage");
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(stage, { recursive: true });

  buildPrograms(root, cache, join(stage, "bin"), values.architecture);
  const tree = new PackageTree(join(stage, "app"));
  for (const tool of ["conformance", "demo", "gpu"])
    tree.addProgram(join(root, "tools", tool), `tools/${tool}`);
  tree.addScripts(join(root, "examples"), "examples");
  addSnippets(root, join(stage, "app/examples"));
  const tests = await buildGpuTests(root, join(stage, "app/node_modules/@moe-a2a/cuda"));
  if (tests === 0) console.error("packages/cuda/test/gpu holds no tests: the bundle has none of them");
  run("strip", ["--strip-unneeded", join(stage, "app/node_modules/@moe-a2a/cuda-linux-x64/moe_a2a.node")]);
  copyFileSync(join(root, "tools/gpu/reference/flashinfer.json"), join(stage, "flashinfer.json"));
  copyFileSync(join(root, "tools/gpu/peers/nccl.py"), join(stage, "nccl.py"));
  const manifest = `${JSON.stringify({ sources: hashSources(root), revision: revision(), date: new Date().toISOString() })}\n`;
  writeFileSync(join(stage, "manifest.json"), manifest);

  rmSync(values.out, { recursive: true, force: true });
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, "manifest.json"), manifest);
  writeFileSync(join(values.out, "run.sh"), RUN_SH, { mode: 0o755 });
  copyFileSync(compressedNode(cache), join(values.out, "node.xz"));
  run("tar", ["--use-compress-program=xz -6 -T0", "-cf", join(values.out, "app.tar.xz"), "-C", stage, "."]);
  const bytes = readdirSync(values.out).reduce((sum, file) => sum + statSync(join(values.out, file)).size, 0);
  console.log(`${values.out}: ${(bytes / 2 ** 20).toFixed(1)} MiB`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
