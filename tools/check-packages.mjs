// Packs every public package and checks what npm would get: its files, its entry points and its types.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { USER_OPTIONS } from "./user-types.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "moe-a2a-pack-"));
let failed = 0;
let passed = 0;

function run(command, args, cwd = root) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" });
  return { ok: status === 0, output: `${stdout}${stderr}` };
}

function report(name, ok, output) {
  ok ? passed++ : failed++;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}`);
  if (!ok) console.log(output.replace(/^/gm, "     "));
}

const bin = (name) => join(root, "node_modules/.bin", name);
const common = ["LICENSE", "README.md", "package.json"];

/** The oldest glibc that the native code has to load with: that of the machines which build it here, and 2.28 in a release. */
const { MOE_A2A_GLIBC: OLDEST_GLIBC = "2.34" } = process.env;
const MOST_NATIVE_BYTES = 5_000_000;

/** What the native code needs of its platform, and what it takes to download. */
function checkNative(name, tarball, binary) {
  const { size } = statSync(tarball);
  report(`${name}: ${size} bytes packed`, size < MOST_NATIVE_BYTES, `at most ${MOST_NATIVE_BYTES}`);
  // Names of symbol versions lie as they are in a table of the file.
  const versions = readFileSync(binary, "latin1").matchAll(/\0GLIBC_(\d+\.\d+)(?=[.\d]*\0)/g);
  const minor = (version) => Number(version.split(".")[1]);
  const needed = [...versions]
    .map(([, version]) => version)
    .sort((a, b) => minor(a) - minor(b))
    .at(-1);
  report(
    `${name}: loads with glibc ${needed}`,
    needed !== undefined && minor(needed) <= minor(OLDEST_GLIBC),
    `it has to load with glibc ${OLDEST_GLIBC}`,
  );
}

/** Packages of native code hold that alone; it is there where it could be built. */
const isNative = (manifest) => manifest.os !== undefined;
const filesOf = (manifest, source) => {
  const programs = Object.values(manifest.bin ?? {}).flatMap((path) => [
    path.slice(2),
    `${path.slice(2)}.map`,
  ]);
  if (!isNative(manifest)) {
    const entries = Object.values(manifest.exports).filter((entry) => typeof entry === "object");
    const modules = entries.flatMap(({ types, default: code }) => [types, code, `${code}.map`]);
    return [...common, ...modules.map((path) => path.slice(2)), ...programs].sort();
  }
  const binary = existsSync(join(source, manifest.main)) ? [manifest.main.replace("./", "")] : [];
  if (binary.length === 0)
    console.log(`     ${manifest.name}: its native code is not built here, and not checked`);
  return ["LICENSE", "README.md", ...binary, "package.json"];
};

const names = readdirSync(join(root, "packages"));
const libraries = [];
const tarballs = new Map();
for (const name of names) {
  const source = join(root, "packages", name);
  const manifest = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
  if (manifest.private) continue;
  const target = join(folder, name);
  const packed = run("pnpm", ["pack", "--pack-destination", target], source);
  report(`${manifest.name}: packs`, packed.ok, packed.output);
  if (!packed.ok) continue;
  const tarball = join(target, readdirSync(target)[0]);
  tarballs.set(name, tarball);
  const files = run("tar", ["-tzf", tarball])
    .output.trim()
    .split("\n")
    .map((file) => file.replace(/^package\//, ""))
    .sort();
  const expected = filesOf(manifest, source);
  report(
    `${manifest.name}: files`,
    files.join() === expected.join(),
    `has ${files.join(", ")}\nexpected ${expected.join(", ")}`,
  );
  const inside = run("tar", ["-xzOf", tarball, "package/package.json"]).output;
  report(
    `${manifest.name}: versions`,
    !inside.includes("workspace:") && !inside.includes("catalog:"),
    inside,
  );
  // What follows is about JavaScript and its types.
  if (isNative(manifest)) {
    const binary = join(source, manifest.main);
    if (existsSync(binary)) checkNative(manifest.name, tarball, binary);
    continue;
  }
  libraries.push(name);
  const lint = run(bin("publint"), ["run", "--strict", tarball]);
  report(`${manifest.name}: publint`, lint.ok, lint.output);
  const types = run(bin("attw"), ["--profile", "esm-only", "--no-emoji", tarball]);
  report(`${manifest.name}: types`, types.ok, types.output);
}

/** A project of a user who has neither Node's types nor the DOM's: the packages' declarations have to do without. */
function checkUserTypes() {
  const user = join(folder, "user");
  for (const name of names) {
    const target = join(user, "node_modules/@moe-a2a", name);
    mkdirSync(target, { recursive: true });
    run("tar", ["-xzf", tarballs.get(name), "--strip-components=1", "-C", target]);
  }
  const imports = libraries.map((name, i) => `export * as p${i} from "@moe-a2a/${name}";\n`);
  writeFileSync(join(user, "index.ts"), imports.join(""));
  writeFileSync(
    join(user, "tsconfig.json"),
    JSON.stringify({ compilerOptions: USER_OPTIONS, files: ["index.ts"] }),
  );
  const types = run(bin("tsc"), ["-p", user]);
  report("types without @types/node", types.ok, types.output);
  const load = libraries.map((name) => `require("@moe-a2a/${name}");`).join(" ");
  const required = run(process.execPath, ["--eval", load], user);
  report("require() of the packed packages", required.ok, required.output);
}

if (tarballs.size === names.length) checkUserTypes();
rmSync(folder, { recursive: true });
console.log(`${passed} checks passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
