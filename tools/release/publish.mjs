// Publishes what `changeset version` has prepared, from the workflow that may: refuses a release that is not whole, and says
// in each manifest where its sources are, which provenance is checked against.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { binOf, manifestOf, packageNames, ROOT } from "./workspace.mjs";

const { GITHUB_SERVER_URL = "https://github.com", GITHUB_REPOSITORY } = process.env;

function fail(message) {
  console.error(message);
  process.exit(1);
}

if (!GITHUB_REPOSITORY)
  fail("GITHUB_REPOSITORY is not set; releases are made by .github/workflows/release.yml");
const manifests = new Map(packageNames().map((name) => [name, manifestOf(ROOT, name)]));
const versions = new Set([...manifests.values()].map(({ version }) => version));
if (versions.size !== 1) fail(`the packages have different versions: ${[...versions].join(", ")}`);
for (const [name, { main }] of manifests) {
  if (!existsSync(join(ROOT, "packages", name, main))) fail(`${name} is not built: there is no ${main}`);
}

// The native code knows which version it was built for; one of another version would be refused by its users' loaders.
const native = readFileSync(join(ROOT, "packages/cuda-linux-x64/moe_a2a.node"), "latin1");
const [version] = versions;
if (!native.includes(`\0${version}\0`)) fail(`moe_a2a.node was not built for version ${version}`);

for (const [name, manifest] of manifests) {
  const repository = {
    type: "git",
    url: `git+${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}.git`,
    directory: `packages/${name}`,
  };
  const file = join(ROOT, "packages", name, "package.json");
  writeFileSync(file, `${JSON.stringify({ ...manifest, repository }, null, 2)}\n`);
}
const { status } = spawnSync(binOf("changeset"), ["publish"], { cwd: ROOT, stdio: "inherit" });
process.exit(status ?? 1);
