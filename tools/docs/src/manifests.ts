import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageFolders, ROOT } from "./documents.js";

export interface Manifest {
  readonly name: string;
  readonly packageManager?: string;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly bin?: Readonly<Record<string, string>>;
}

export function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")) as Manifest;
}

/** The built program that `npx` runs for a package of this repository; undefined where there is not just one. */
export function programOf(name: string): string | undefined {
  const folder = packageFolders().find((folder) => readManifest(folder).name === name);
  if (folder === undefined) return undefined;
  const [program, ...others] = Object.values(readManifest(folder).bin ?? {});
  return program === undefined || others.length > 0 ? undefined : join(ROOT, folder, program);
}
