// Rehearses a release from beginning to end against a registry on this machine: versions, changelogs, publishing, and what a
// user does with each package afterwards. Nothing leaves the machine, and the repository stays as it is.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Checks } from "./checks.mjs";
import { addLayer, askDoctor, checkTypes, installLayer, runReadme } from "./layers.mjs";
import { nameRepository, nativeFile, releaseProblem } from "./prepare.mjs";
import { startRegistry } from "./registry.mjs";
import {
  binOf,
  copyWorkspace,
  leaveOutUnbuilt,
  manifestOf,
  packageNames,
  ROOT,
  withPnpm,
} from "./workspace.mjs";

const HELP = `Usage: npm run release:rehearse -- [options]

  --node LIST  versions of Node to run the READMEs on, such as 20,22,24 (default: this one)
  --no-native  does without the native code, as where there is no CUDA compiler
  --keep       leaves the folder that all this happens in
  --help       this text
`;

const { values } = parseArgs({
  options: {
    node: { type: "string" },
    keep: { type: "boolean" },
    "no-native": { type: "boolean" },
    help: { type: "boolean" },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

const checks = new Checks();
const folder = mkdtempSync(join(tmpdir(), "moe-a2a-release-"));
const root = join(folder, "repository");
mkdirSync(root);
const registry = await startRegistry(join(folder, "registry"));
try {
  const released = release();
  if (released !== undefined) use(released);
} finally {
  registry.stop();
  if (values.keep) console.log(`left in ${folder}`);
  else rmSync(folder, { recursive: true });
}
process.exitCode = checks.end();

/** Versions and publishes all packages; returns their version, and whether native code is among them. */
function release() {
  copyWorkspace(root);
  if (values["no-native"]) rmSync(nativeFile(root), { force: true });
  const before = manifestOf(root, "core").version;
  if (checks.run("changeset version", binOf("changeset"), ["version"], { cwd: root }) === undefined) return;
  const names = packageNames();
  const versions = new Set(names.map((name) => manifestOf(root, name).version));
  const [version] = versions;
  checks.report("all packages have one version", versions.size === 1, [...versions].join(", "));
  console.log(`     version ${version}${version === before ? ", as there is no changeset" : ""}`);
  const leftOut = leaveOutUnbuilt(root);
  for (const name of leftOut) console.log(`     ${name}: not built here, and left out`);
  if (leftOut.length === 0) {
    pretendVersion(nativeFile(root), before, version);
    const problem = releaseProblem(root);
    checks.report("the release is whole", problem === undefined, problem);
  }
  nameRepository(root, "https://example.com/rehearsal");

  // Outside the copy, which has an .npmrc of its own where the repository has one.
  const userconfig = join(folder, "npmrc");
  writeFileSync(userconfig, registry.npmrc);
  const install = "pnpm install --frozen-lockfile --prod --ignore-scripts --offline --filter './packages/*'";
  // pnpm fills in the versions of other packages from what is installed.
  if (checks.run("pnpm install", ...withPnpm(install), { cwd: root }) === undefined) return;
  // Only now the other registry: pnpm itself comes from the usual one.
  const settings = `CI=true npm_config_registry=${registry.url} npm_config_userconfig='${userconfig}'`;
  const publish = withPnpm(`${settings} '${binOf("changeset")}' publish --no-git-tag`);
  if (checks.run("changeset publish", ...publish, { cwd: root }) === undefined) return;
  return { version, whole: leftOut.length === 0 };
}

/** A release builds the native code for its version, which takes minutes: here the version in the file is changed. */
function pretendVersion(file, before, version) {
  const native = readFileSync(file, "latin1");
  if (before.length === version.length)
    writeFileSync(file, native.replaceAll(`\0${before}\0`, `\0${version}\0`), "latin1");
}

/** Does with each package what its users do. */
function use({ version, whole }) {
  const nodes = (values.node?.split(",") ?? [undefined]).map(nodeOf);
  const users = join(folder, "users");
  for (const short of packageNames()) {
    const { name, os } = manifestOf(root, short);
    // Comes with the package that needs it, where it was built.
    if (os !== undefined) continue;
    const project = installLayer(checks, { folder: users, name, version, npmrc: registry.npmrc });
    if (project === undefined) continue;
    checkTypes(checks, project, name);
    const readme = join(ROOT, "packages", short, "README.md");
    for (const node of nodes) runReadme(checks, { project, name, readme, node });
    if (short === "sglang") {
      const alone = ["@moe-a2a/sglang", "@moe-a2a/core", "@moe-a2a/js"];
      askDoctor(checks, project, alone);
      if (!whole) continue;
      // The native code has to load where it can, with or without a GPU; the doctor would have a problem else.
      addLayer(checks, project, "@moe-a2a/cuda", version);
      askDoctor(checks, project, [...alone, "@moe-a2a/cuda", "@moe-a2a/cuda-linux-x64"]);
    }
  }
}

/** A Node of the version asked for, from npm. */
function nodeOf(version) {
  if (version === undefined) return { path: process.execPath, version: process.versions.node };
  const args = [
    "--yes",
    `--package=node@${version}`,
    "--call",
    "node -p '[process.execPath, process.versions.node]'",
  ];
  const { status, stdout, stderr } = spawnSync("npx", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`there is no Node ${version} to be had:\n${stderr}`);
  const [path, found] = JSON.parse(stdout.replaceAll("'", '"'));
  return { path, version: found };
}
