// Builds kernels/ and runs its tests, where there is a CUDA compiler; with REQUIRE_CUDA=1 it fails elsewhere. Tests that need
// a GPU say that they have none.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { findNvcc } from "./nvcc.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const { REQUIRE_CUDA, MOE_A2A_ARCHITECTURES } = process.env;
const nvcc = findNvcc();
if (!nvcc) {
  console.error("The kernels are not tested: there is no nvcc.");
  process.exit(REQUIRE_CUDA === "1" ? 1 : 0);
}

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

const architectures = MOE_A2A_ARCHITECTURES ?? "90-real;90-virtual";
run(
  "cmake",
  ...["-S", "kernels", "-B", "kernels/build", "-DCMAKE_BUILD_TYPE=Release"],
  ...[`-DCMAKE_CUDA_COMPILER=${nvcc}`, `-DCMAKE_CUDA_ARCHITECTURES=${architectures}`],
);
run("cmake", "--build", "kernels/build", "--parallel", String(availableParallelism()));
run("ctest", "--test-dir", "kernels/build", "--output-on-failure");
