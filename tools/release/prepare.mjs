import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { manifestOf, packageNames } from "./workspace.mjs";

/** Why what is in `root` cannot be published as it is, or undefined. */
export function releaseProblem(root) {
  const manifests = packageNames().map((name) => [name, manifestOf(root, name)]);
  const versions = new Set(manifests.map(([, { version }]) => version));
  if (versions.size !== 1) return `the packages have different versions: ${[...versions].join(", ")}`;
  for (const [name, { main }] of manifests) {
    if (!existsSync(join(root, "packages", name, main))) return `${name} is not built: there is no ${main}`;
  }
  // The native code knows which version it was built for; its users' loaders refuse one of another version.
  const native = readFileSync(nativeFile(root), "latin1");
  const [version] = versions;
  return native.includes(`\0${version}\0`) ? undefined : `moe_a2a.node was not built for version ${version}`;
}

export const nativeFile = (root) => join(root, "packages/cuda-linux-x64/moe_a2a.node");

/** Says in each manifest where its sources are, which the registry compares with the provenance. */
export function nameRepository(root, url) {
  for (const name of packageNames()) {
    const repository = { type: "git", url: `git+${url}.git`, directory: `packages/${name}` };
    const file = join(root, "packages", name, "package.json");
    writeFileSync(file, `${JSON.stringify({ ...manifestOf(root, name), repository }, null, 2)}\n`);
  }
}
