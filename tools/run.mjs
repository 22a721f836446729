// Root scripts end here: sets the workspace up with nothing but Node and npm, then runs one task.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { packageManager } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const [task, ...args] = process.argv.slice(2);
const env = {
  ...process.env,
  TURBO_TELEMETRY_DISABLED: "1",
  DO_NOT_TRACK: "1",
  TURBO_NO_UPDATE_NOTIFIER: "1",
};

function run(command, argv, label = command) {
  const { status, error, signal } = spawnSync(command, argv, { cwd: root, env, stdio: "inherit" });
  if (error) throw error;
  if (signal) process.kill(process.pid, signal);
  if (status !== 0) {
    console.error(`${label} failed with exit code ${status}`);
    process.exit(status ?? 1);
  }
}

/** Runs shell words with pnpm on the PATH, which turbo needs too. */
const withPnpm = (line) => run("npx", ["--yes", `--package=${packageManager}`, "--call", line], line);

/** The same as preparation for something else: silent unless it fails. */
function prepare(line) {
  console.error("Setting up: install and build what changed (the first time takes a minute) …");
  const argv = ["--yes", `--package=${packageManager}`, "--call", line];
  const { status, stdout, stderr } = spawnSync("npx", argv, {
    cwd: root,
    env,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (status === 0) return;
  console.error(`${stdout ?? ""}${stderr ?? ""}\n${line} failed with exit code ${status}`);
  process.exit(status || 1);
}

const quiet = "--output-logs=errors-only --log-prefix=none";
const install = "pnpm install --frozen-lockfile --prefer-offline --reporter=append-only";
const turbo = (tasks) => `pnpm exec turbo run ${tasks} ${quiet}`;
const node = (script, ...words) => run(process.execPath, [script, ...words, ...args], script);
const bin = (name, ...words) => run(process.execPath, [`node_modules/${name}`, ...words, ...args], name);

const report = (...words) => {
  prepare(`${install} && ${turbo("build --filter=@moe-a2a-tools/gpu")}`);
  run(process.execPath, ["tools/gpu/dist/report-main.js", ...words, ...args], "report");
};

const tasks = {
  start: () => {
    prepare(`${install} && ${turbo("build --filter=@moe-a2a-tools/demo")}`);
    node("tools/demo/dist/main.js");
  },
  example: () => {
    const [name, ...rest] = args;
    const names = readdirSync(`${root}/examples`).flatMap((file) => /^(.+)\.mjs$/.exec(file)?.[1] ?? []);
    if (!names.includes(name)) {
      console.error(`npm run example NAME, where NAME is one of: ${names.join(", ")}`);
      process.exit(2);
    }
    prepare(`${install} && ${turbo("build --filter=./packages/*")}`);
    // Those of processes need a launcher; the others run by themselves.
    const launcher = name === "process-ranks" ? ["packages/sglang/dist/cli.js", "run", "--ranks=3"] : [];
    run(process.execPath, [...launcher, `examples/${name}.mjs`, ...rest], `example ${name}`);
  },
  doctor: () => {
    prepare(`${install} && ${turbo("build --filter=./packages/*")}`);
    node("packages/sglang/dist/cli.js", "doctor");
  },
  test: () => {
    prepare(`${install} && ${turbo("build")}`);
    bin("vitest/vitest.mjs", "run");
  },
  build: () => withPnpm(`${install} && ${turbo("build")}`),
  "build:native": () => {
    prepare(install);
    node("tools/build-native.mjs");
  },
  "test:kernels": () => node("tools/test-kernels.mjs"),
  typecheck: () => withPnpm(`${install} && ${turbo("typecheck")}`),
  lint: () => {
    prepare(install);
    bin("@biomejs/biome/bin/biome", "ci", ".");
  },
  format: () => {
    prepare(install);
    bin("@biomejs/biome/bin/biome", "check", "--write", ".");
  },
  conformance: () => {
    prepare(`${install} && ${turbo("build --filter=@moe-a2a-tools/conformance")}`);
    node("tools/conformance/dist/main.js");
  },
  faults: () => {
    prepare(`${install} && ${turbo("build --filter=@moe-a2a-tools/conformance")}`);
    node("tools/conformance/dist/faults/main.js");
  },
  bench: () => {
    prepare(`${install} && ${turbo("build --filter=@moe-a2a-tools/bench --filter=@moe-a2a-tools/gpu")}`);
    node("tools/bench/dist/main.js");
  },
  soak: () => {
    prepare(`${install} && ${turbo("build --filter=@moe-a2a-tools/conformance")}`);
    node("tools/conformance/dist/soak-main.js");
  },
  fuzz: () => {
    prepare(`${install} && ${turbo("build --filter=@moe-a2a-tools/fuzz")}`);
    node("tools/fuzz/dist/main.js");
  },
  // Needs nothing of the workspace.
  model: () => node("tools/model/main.mjs"),
  emulate: () => {
    // The kernels alone need nothing of the workspace.
    if (args[0] === "addon") prepare(`${install} && ${turbo("build")}`);
    node("tools/emulation/main.mjs");
  },
  "gpu:bundle": () => {
    withPnpm(`${install} && ${turbo("build")}`);
    run(process.execPath, ["tools/build-native.mjs"], "build:native");
    node("tools/gpu/dist/bundle-main.js");
  },
  "gpu:report": () => report(),
  "gpu:check": () => report("check"),
  "docs:api": () => {
    prepare(install);
    const program = "tools/docs/node_modules/typedoc/bin/typedoc";
    run(process.execPath, [program, "--options", "tools/docs/typedoc/typedoc.json", ...args], "typedoc");
  },
  "release:version": () => {
    prepare(install);
    bin("@changesets/cli/bin.js", "version");
  },
  "release:rehearse": () => {
    prepare(`${install} && ${turbo("build --filter=./packages/*")}`);
    node("tools/release/rehearse.mjs");
  },
  "release:publish": () => withPnpm("node tools/release/publish.mjs"),
  "check:packages": () => {
    prepare(`${install} && ${turbo("build --filter=./packages/*")}`);
    withPnpm("node tools/check-packages.mjs");
  },
};

if (!Object.hasOwn(tasks, task)) {
  console.error(`unknown task "${task}"; one of: ${Object.keys(tasks).join(", ")}`);
  process.exit(2);
}
tasks[task]();
