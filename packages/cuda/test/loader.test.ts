import { execFile } from "node:child_process";
import { copyFile, cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { loadNative } from "../src/loader.js";
import { native, skipped } from "./native.js";

const packages = fileURLToPath(new URL("../..", import.meta.url));
const binary = join(packages, "cuda-linux-x64/moe_a2a.node");
const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string };

let root: string | undefined;
afterEach(async () => {
  if (root) await rm(root, { recursive: true });
  root = undefined;
});

/** A project with these files of the platform's package. */
async function install(files: Readonly<Record<string, string>>): Promise<string> {
  root = await mkdtemp(join(tmpdir(), "moe-a2a-cuda-"));
  const folder = join(root, "node_modules/@moe-a2a/cuda-linux-x64");
  await mkdir(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return folder;
}

const load = (platform = "linux-x64", wanted = version) =>
  loadNative({ from: join(root ?? tmpdir(), "program.js"), version: wanted, platform });

const manifest = (v = version) =>
  JSON.stringify({ name: "@moe-a2a/cuda-linux-x64", version: v, main: "./moe_a2a.node" });

describe("the native code cannot be had", () => {
  it("on other platforms", () => {
    expect(load("darwin-arm64").status).toMatchObject({
      available: false,
      code: "CUDA_PLATFORM",
      reason: "@moe-a2a/cuda has no native code for darwin-arm64",
      hint: expect.stringContaining("linux-x64"),
    });
  });

  it("without its package", async () => {
    // In a process of its own, as tools like npx have this one look for packages in more places.
    root = await mkdtemp(join(tmpdir(), "moe-a2a-cuda-"));
    const scope = join(root, "node_modules/@moe-a2a");
    await mkdir(scope, { recursive: true });
    await symlink(join(packages, "core"), join(scope, "core"), "dir");
    for (const part of ["dist", "package.json"]) {
      await cp(join(packages, "cuda", part), join(scope, "cuda", part), { recursive: true });
    }
    const program = 'console.log(JSON.stringify(require("@moe-a2a/cuda").cudaBackend.status()))';
    const { NODE_PATH: _, ...env } = process.env;
    const { stdout } = await promisify(execFile)(process.execPath, ["--eval", program], { cwd: root, env });
    expect(JSON.parse(stdout)).toMatchObject({
      code: "CUDA_BINARY_MISSING",
      reason: "the package of the native code, @moe-a2a/cuda-linux-x64, is not installed",
      hint: expect.stringContaining(`npm i @moe-a2a/cuda@${version}`),
    });
  });

  it("on Linux without glibc", async () => {
    await install({ "package.json": "broken" });
    const from = join(root!, "program.js");
    expect(loadNative({ from, version, platform: "linux-x64", glibc: undefined }).status).toMatchObject({
      code: "CUDA_PLATFORM",
      reason: expect.stringContaining("without glibc"),
      hint: expect.stringContaining("glibc 2.28"),
    });
  });

  it("from a package of another version", async () => {
    await install({ "package.json": manifest("9.9.9") });
    expect(load().status).toMatchObject({
      code: "CUDA_BINARY_VERSION",
      reason: `@moe-a2a/cuda-linux-x64 has version 9.9.9, and @moe-a2a/cuda has version ${version}`,
    });
  });

  it("from a package without the file", async () => {
    await install({ "package.json": manifest() });
    expect(load().status).toMatchObject({
      code: "CUDA_BINARY_MISSING",
      reason: "@moe-a2a/cuda-linux-x64 is installed without its native code, moe_a2a.node",
      hint: expect.stringContaining("npm run build:native"),
    });
  });

  it("from a file that does not load", async () => {
    await install({ "package.json": manifest(), "moe_a2a.node": "no shared object" });
    expect(load().status).toMatchObject({
      code: "CUDA_BINARY_BROKEN",
      reason: expect.stringContaining("does not load"),
      hint: expect.stringMatching(
        `Node 20.19 and glibc 2.28 or newer, and this is Node ${process.versions.node} with glibc `,
      ),
    });
  });

  it.skipIf(!native)(`from a file that was built for another version${skipped}`, async () => {
    const folder = await install({ "package.json": manifest("9.9.9") });
    await copyFile(binary, join(folder, "moe_a2a.node"));
    expect(load("linux-x64", "9.9.9").status).toMatchObject({
      code: "CUDA_BINARY_VERSION",
      reason: expect.stringContaining(`was built for version ${version}`),
    });
  });
});

it.skipIf(!native)(`is loaded where all fits${skipped}`, async () => {
  const folder = await install({ "package.json": manifest() });
  await copyFile(binary, join(folder, "moe_a2a.node"));
  expect(load()).toMatchObject({ native: { packageVersion: version } });
});
