import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/** What this package's code needs of package.json. */
export interface Manifest {
  readonly version: string;
  readonly engines: { readonly node: string };
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** A file of this package, from which its dependencies are found. In `src/` as in `dist/` package.json is one level up. */
export const OWN_FILE: string = fileURLToPath(import.meta.url);

export const OWN_MANIFEST: Manifest = createRequire(OWN_FILE)("../package.json") as Manifest;
