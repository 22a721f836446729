// A copy of the repository to release from, so that versions and changelogs of the real one stay as they are.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const { packageManager } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

/** The folders below packages/. */
export const packageNames = () => readdirSync(join(ROOT, "packages"));

export const manifestOf = (root, name) =>
  JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8"));

/** What is built and not in git. */
const builtFiles = () => [
  ...packageNames().map((name) => `packages/${name}/dist`),
  "packages/cuda-linux-x64/moe_a2a.node",
];

/** Copies files that are or could be in git, and what was built, to `target`; makes a repository of it. */
export function copyWorkspace(target) {
  const list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const files = execFileSync("git", list, { cwd: ROOT, encoding: "utf8" }).split("\0");
  for (const file of [...files, ...builtFiles()]) {
    if (file === "" || !existsSync(join(ROOT, file))) continue;
    cpSync(join(ROOT, file), join(target, file), { recursive: true });
  }
  const git = (...args) => execFileSync("git", args, { cwd: target, stdio: "pipe" });
  git("init", "--quiet", "--initial-branch=main");
  git("add", "--all");
  git("-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost", "commit", "--quiet", "-m", "copy");
}

/** A package of native code that was not built cannot be published; the others do without. */
export function leaveOutUnbuilt(root) {
  const leftOut = [];
  for (const name of packageNames()) {
    const manifest = manifestOf(root, name);
    if (existsSync(join(root, "packages", name, manifest.main))) continue;
    writeFileSync(
      join(root, "packages", name, "package.json"),
      JSON.stringify({ ...manifest, private: true }),
    );
    leftOut.push(manifest.name);
  }
  if (leftOut.length > 0) {
    // Else changesets would refuse: others depend on what it passes over.
    const file = join(root, ".changeset/config.json");
    const config = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ ...config, privatePackages: { version: true, tag: false } }));
  }
  return leftOut;
}

/** The words that run pnpm's own version of this repository, on the PATH too for those that look there. */
export const withPnpm = (line) => ["npx", ["--yes", `--package=${packageManager}`, "--call", line]];

/** A program of the root's development dependencies. */
export const binOf = (name) => join(ROOT, "node_modules/.bin", name);
