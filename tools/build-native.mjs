// Builds the addon of packages/cuda into packages/cuda-linux-x64, where there is a CUDA compiler. Elsewhere it says so and
// leaves things as they are; with REQUIRE_CUDA=1 it fails there.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { findNvcc } from "./nvcc.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "packages/cuda");
const { REQUIRE_CUDA, MOE_A2A_ARCHITECTURES } = process.env;
const nvcc = findNvcc();

if (!nvcc || process.platform !== "linux" || process.arch !== "x64") {
  const why = nvcc
    ? `it is for linux-x64, and this is ${process.platform}-${process.arch}`
    : "there is no nvcc";
  console.error(`The addon of @moe-a2a/cuda is not built: ${why}. The CPU backend needs none.`);
  process.exit(REQUIRE_CUDA === "1" ? 1 : 0);
}

const cmakeJs = join(
  dirname(createRequire(join(folder, "package.json")).resolve("cmake-js/package.json")),
  "bin/cmake-js",
);
const architectures = MOE_A2A_ARCHITECTURES ?? "90-real;90-virtual";
const options = [
  ...["--directory", folder, "--out", join(folder, "build"), "--config", "Release"],
  ...["--parallel", String(availableParallelism())],
  `--CDMOE_A2A_ARCHITECTURES=${architectures}`,
];
// `compile` alone would keep what was configured before, other architectures among it.
for (const command of ["configure", "build"]) {
  const { status } = spawnSync(process.execPath, [cmakeJs, command, ...options], {
    cwd: folder,
    env: { ...process.env, CUDACXX: nvcc },
    stdio: "inherit",
  });
  if (status !== 0) process.exit(status ?? 1);
}
