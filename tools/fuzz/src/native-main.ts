import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeFigures } from "./figures/write.js";

const here = fileURLToPath(new URL("..", import.meta.url));
const sources = join(here, "native");
const build = join(here, "build/native");
const packageJson = join(here, "../../packages/cuda/package.json");

/** Where something is that the build needs and that may be missing. */
class Missing extends Error {}

function has(command: string): boolean {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
}

/** Runs a program to its end. @throws with what it said, where it fails */
function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const options = { env: { ...process.env, ...env }, encoding: "utf8", maxBuffer: 2 ** 28 } as const;
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, options);
  if (error) throw error;
  if (status === 0) return stdout;
  throw new Error(
    `${command} ${args.join(" ")}\nended with ${signal ?? `exit code ${status}`}\n${stdout}${stderr}`,
  );
}

/** Builds everything; the addon where there is a CUDA compiler. @returns whether it is there */
function buildAll(nvcc: string | undefined): boolean {
  if (!has("cmake") || !has("g++")) throw new Missing("there is no cmake, or no g++");
  const compile = ["--build", build, "--parallel"];
  if (!nvcc) {
    run("cmake", ["-S", sources, "-B", build, "-DMOE_A2A_SANITIZED_ADDON=OFF"]);
    run("cmake", compile);
    return false;
  }
  const headers = createRequire(packageJson)("node-api-headers") as { readonly include_dir: string };
  const addon = ["-DMOE_A2A_SANITIZED_ADDON=ON", `-DCMAKE_CUDA_COMPILER=${nvcc}`];
  run("cmake", ["-S", sources, "-B", build, ...addon, `-DNODE_API_HEADERS=${headers.include_dir}`]);
  run("cmake", compile);
  return true;
}

function findNvcc(): string | undefined {
  const places = [
    process.env.CUDACXX,
    process.env.CUDA_PATH && join(process.env.CUDA_PATH, "bin/nvcc"),
    ...(process.env.PATH ?? "").split(":").map((place) => join(place, "nvcc")),
    "/usr/local/cuda/bin/nvcc",
  ];
  return places.find((place): place is string => Boolean(place) && existsSync(place as string));
}

/** A runtime of the sanitizers, which has to be there before Node is. */
function runtime(name: string): string {
  const file = run("g++", [`-print-file-name=${name}`]).trim();
  if (!existsSync(file)) throw new Missing(`g++ has no ${name}`);
  return file;
}

/** Hostile calls of the sanitized addon, in Node. */
function callAddon(calls: string, seed: string): string {
  const said = run(
    process.execPath,
    [fileURLToPath(new URL("./main.js", import.meta.url)), "addon", "--calls", calls, "--seed", seed],
    {
      MOE_A2A_FUZZ_ADDON: join(build, "moe_a2a.node"),
      LD_PRELOAD: `${runtime("libasan.so")} ${runtime("libubsan.so")}`,
      // Node frees little of what it has at its end; a driver maps what it likes.
      ASAN_OPTIONS: "detect_leaks=0:protect_shadow_gap=0:abort_on_error=1",
      UBSAN_OPTIONS: "print_stacktrace=1:abort_on_error=1",
    },
  );
  return said.trimEnd().split("\n").at(-1)!;
}

function main(): void {
  const { values } = parseArgs({
    options: {
      messages: { type: "string", default: "1000000" },
      exchanges: { type: "string", default: "1000" },
      calls: { type: "string", default: "200000" },
      seed: { type: "string", default: "1" },
      json: { type: "string" },
    },
  });
  const start = performance.now();
  const hasAddon = buildAll(findNvcc());
  const program = (name: string, ...args: readonly string[]): string => run(join(build, name), args);
  program("exchange_test");
  const messages = JSON.parse(program("fuzz_messages", values.messages, values.seed));
  const exchanges = JSON.parse(program("fuzz_exchange", values.exchanges, values.seed));
  const said = hasAddon ? callAddon(values.calls, values.seed) : "addon: not built, as there is no nvcc";
  console.log(said);
  const [, calls = 0, threads = 0] = (/^addon: (\d+) calls.* (\d+) threads/.exec(said) ?? []).map(Number);
  const seconds = (performance.now() - start) / 1000;
  console.log(
    `native: with AddressSanitizer and UBSan: ${messages.messages} messages (${messages.right} right), ` +
      `${exchanges.exchanges} exchanges among strangers and liars, ${calls} calls of the addon and ${threads} threads torn down, seed ${values.seed}, ` +
      `${seconds.toFixed(1)} s`,
  );
  const figures = {
    ...messages,
    ...exchanges,
    calls,
    threads,
    seed: Number(values.seed),
    seconds,
    failed: 0,
  };
  writeFigures(values.json, { tool: "native", ...figures });
}

try {
  main();
} catch (error) {
  if (error instanceof Missing) console.log(`native: not built: ${error.message}`);
  else {
    console.log("FAILED:", (error as Error).message);
    process.exitCode = 1;
  }
}
