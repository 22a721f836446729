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
  symlinkSync,
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
const { MOE_A2A_GLIBC: OLDEST_GLIBC = "2.36" } = process.env;
const MOST_NATIVE_BYTES = 5_000_000;

/** Orders versions such as 3.4.25. */
const compareVersions = (a, b) => a.localeCompare(b, "en", { numeric: true });

/** What the native code needs of its platform, and what it takes to download. */
function checkNative(name, tarball, binary) {
  const { size } = statSync(tarball);
  report(`${name}: ${size} bytes packed`, size < MOST_NATIVE_BYTES, `at most ${MOST_NATIVE_BYTES}`);
  // Names of symbol versions lie as they are in a table of the file.
  const code = readFileSync(binary, "latin1");
  const newest = (prefix) =>
    [...code.matchAll(new RegExp(`\\0${prefix}_(\\d[.\\d]*)(?=\\0)`, "g"))]
      .map(([, version]) => version)
      .sort(compareVersions)
      .at(-1);
  const glibc = newest("GLIBC");
  report(
    `${name}: asks for glibc ${glibc}`,
    glibc !== undefined && compareVersions(glibc, OLDEST_GLIBC) <= 0,
    `it has to load with glibc ${OLDEST_GLIBC}`,
  );
  const shared = /libstdc\+\+\.so[.\d]*/.exec(code)?.[0];
  report(`${name}: brings its own libstdc++`, shared === undefined, `it asks for ${shared}`);
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
/** What users import: the packages, and their other entries. */
const specifiers = [];
const tarballs = new Map();
let hasNative = false;
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
    if (existsSync(binary)) {
      checkNative(manifest.name, tarball, binary);
      hasNative = true;
    }
    continue;
  }
  for (const [path, entry] of Object.entries(manifest.exports))
    if (typeof entry === "object") specifiers.push(manifest.name + path.slice(1));
  const lint = run(bin("publint"), ["run", "--strict", tarball]);
  report(`${manifest.name}: publint`, lint.ok, lint.output);
  const types = run(bin("attw"), ["--profile", "esm-only", "--no-emoji", tarball]);
  report(`${manifest.name}: types`, types.ok, types.output);
}

/** A project of a user who has neither Node's types nor the DOM's: the packages' declarations have to do without. */
function checkUserProject() {
  const user = join(folder, "user");
  for (const name of names) {
    const target = join(user, "node_modules/@moe-a2a", name);
    mkdirSync(target, { recursive: true });
    run("tar", ["-xzf", tarballs.get(name), "--strip-components=1", "-C", target]);
  }
  // An optional peer, which one of the entries is for.
  mkdirSync(join(user, "node_modules/@opentelemetry"));
  const peer = "node_modules/@opentelemetry/api";
  symlinkSync(join(root, "packages/sglang", peer), join(user, peer));
  const imports = specifiers.map((name, i) => `export * as p${i} from "${name}";\n`);
  writeFileSync(join(user, "index.ts"), imports.join(""));
  writeFileSync(
    join(user, "tsconfig.json"),
    JSON.stringify({ compilerOptions: USER_OPTIONS, files: ["index.ts"] }),
  );
  const types = run(bin("tsc"), ["-p", user]);
  report("types without @types/node", types.ok, types.output);
  const load = specifiers.map((name) => `require("${name}");`).join(" ");
  const required = run(process.execPath, ["--eval", load], user);
  report("require() of the packed packages", required.ok, required.output);
  const loadAll = specifiers.map((name) => `import "${name}";`).join(" ");
  const imported = run(process.execPath, ["--input-type=module", "--eval", loadAll], user);
  report("import of the packed packages", imported.ok, imported.output);
  if (!hasNative) return;
  // With no driver or no GPU it says so; then it has loaded.
  const ask = `
    const status = require("@moe-a2a/cuda").cudaBackend.status();
    console.log(status);
    process.exitCode = !status.available && /^CUDA_(PLATFORM|BINARY|ERROR)/.test(status.code) ? 1 : 0;`;
  const native = run(process.execPath, ["--eval", ask], user);
  report("the packed native code loads", native.ok, native.output);
}

if (tarballs.size === names.length) checkUserProject();
rmSync(folder, { recursive: true });
console.log(`${passed} checks passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
