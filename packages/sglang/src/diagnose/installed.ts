import { createRequire } from "node:module";
import { dirname } from "node:path";
import { CUDA_PACKAGE } from "../cuda.js";
import { OWN_FILE as here, type Manifest, OWN_MANIFEST as own } from "../own-manifest.js";
import type { PackageDiagnosis } from "./diagnosis.js";

interface Found {
  readonly file: string;
  readonly manifest: Manifest;
}

/** The manifest of a package as `from` sees it, or undefined where it is not installed. */
function find(name: string, from: string): Found | undefined {
  const require = createRequire(from);
  try {
    const file = require.resolve(`${name}/package.json`);
    return { file, manifest: require(file) as Manifest };
  } catch {
    return undefined;
  }
}

/** The versions of Node that this package is for. */
export const NODE_RANGE: string = own.engines.node;

/** The packages that this one uses or would use, and what is wrong with their versions. */
export function installedPackages(): { packages: PackageDiagnosis[]; problems: string[] } {
  const packages: PackageDiagnosis[] = [{ name: "@moe-a2a/sglang", version: own.version }];
  const problems: string[] = [];
  const add = (name: string, from: string): Found | undefined => {
    const found = find(name, from);
    packages.push({ name, version: found?.manifest.version });
    if (found && found.manifest.version !== own.version) {
      problems.push(
        `${name} has version ${found.manifest.version}, and @moe-a2a/sglang has version ${own.version}; ` +
          `install all in one version: npm i ${name}@${own.version}`,
      );
    }
    return found;
  };
  const core = add("@moe-a2a/core", here);
  const users = [add("@moe-a2a/js", here), add(CUDA_PACKAGE, here)];
  for (const user of users) {
    if (user === undefined) continue;
    const theirs = find("@moe-a2a/core", user.file);
    if (core && theirs && theirs.file !== core.file) {
      problems.push(
        `@moe-a2a/core is installed twice: ${dirname(core.file)} and ${dirname(theirs.file)}; remove one with npm dedupe`,
      );
    }
    for (const name of Object.keys(user.manifest.optionalDependencies ?? {})) add(name, user.file);
  }
  return { packages, problems };
}

/** Whether a version of Node is in a range of the form `>=20.19`. */
export function isInRange(version: string, range: string): boolean {
  const numbers = (text: string): number[] => (text.match(/\d+/g) ?? []).map(Number);
  const [has, needs] = [numbers(version), numbers(range)];
  const differs = needs.findIndex((part, i) => part !== (has[i] ?? 0));
  return differs < 0 || (has[differs] ?? 0) > needs[differs]!;
}
