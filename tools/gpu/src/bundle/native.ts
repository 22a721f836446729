import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";

/** Runs a program, its output shown; throws where it fails. */
export function run(command: string, args: readonly string[], cwd?: string): void {
  const { status, error } = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"], cwd });
  if (error) throw new Error(`${command} cannot be started: ${error.message}`);
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} failed with exit code ${status}`);
}

/**
 * The CUDA compiler.
 *
 * @throws where there is none
 */
export function findNvcc(): string {
  const { CUDACXX, CUDA_PATH } = process.env;
  const candidates = [CUDACXX, CUDA_PATH && join(CUDA_PATH, "bin/nvcc"), "nvcc", "/usr/local/cuda/bin/nvcc"];
  const found = candidates.find((c) => c && spawnSync(c, ["--version"]).status === 0);
  if (found) return found;
  throw new Error("a bundle needs CUDA's compiler: put nvcc on the PATH, or name it in CUDACXX");
}

/** Test programs of `kernels/`, in the order in which they run. */
const PROGRAMS = ["host_test", "c_api_test", "stop_test", "share_test", "rounds_test"] as const;

/** Builds the programs that run without Node: the probe, and the tests of `kernels/`. */
export function buildPrograms(root: string, cache: string, target: string, architecture: string): void {
  const nvcc = findNvcc();
  mkdirSync(join(target, "native"), { recursive: true });
  const probe = join(target, "probe");
  const flags = ["-std=c++17", "-O3", `-arch=sm_${architecture}`];
  run(nvcc, [...flags, "-o", probe, join(root, "tools/gpu/probe/probe.cu")]);

  const build = join(cache, "kernels");
  run("cmake", [
    ...["-S", join(root, "kernels"), "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DMOE_A2A_TESTS=ON"],
    ...[`-DCMAKE_CUDA_COMPILER=${nvcc}`, `-DCMAKE_CUDA_ARCHITECTURES=${architecture}`],
  ]);
  run("cmake", ["--build", build, "--parallel", "2"]);
  for (const name of PROGRAMS) {
    const built = join(build, "test", name);
    if (!existsSync(built)) throw new Error(`the build of kernels/ made no ${name}`);
    copyFileSync(built, join(target, "native", name));
    run("strip", [join(target, "native", name)]);
  }
}

/** The Node that runs this, without its symbols, compressed; made once per version. */
export function compressedNode(cache: string): string {
  const node = join(cache, `node-${process.version}`);
  if (!existsSync(`${node}.xz`)) {
    mkdirSync(cache, { recursive: true });
    copyFileSync(process.execPath, `${node}.part`);
    chmodSync(`${node}.part`, 0o755);
    run("strip", [`${node}.part`]);
    run("xz", ["-6", "-T0", "--force", `${node}.part`]);
    renameSync(`${node}.part.xz`, `${node}.xz`);
  }
  return `${node}.xz`;
}
