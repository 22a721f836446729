import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** What GPU reports vouch for, as paths from the repository's root. */
export const HASHED = ["kernels", "packages/cuda", "packages/cuda-linux-x64"] as const;

/** Made from the sources, or text that changes nothing. */
const IGNORED = /^(node_modules|dist|build|\.turbo)$|\.(md|node|tsbuildinfo)$|^LICENSE$/;

/** A file's bytes as far as they matter: a release raises versions and changes nothing else. */
function contents(path: string): Buffer {
  const bytes = readFileSync(path);
  if (!path.endsWith("/package.json")) return bytes;
  const { version: _, ...rest } = JSON.parse(bytes.toString("utf8"));
  return Buffer.from(JSON.stringify(rest));
}

function filesBelow(root: string, path: string): string[] {
  return readdirSync(join(root, path), { withFileTypes: true }).flatMap((entry) => {
    if (IGNORED.test(entry.name)) return [];
    const child = `${path}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(root, child) : [child];
  });
}

export interface SourceHash {
  readonly hash: string;
  readonly files: number;
}

/** Hashes the sources that a GPU run tests; the same in every checkout of the same sources. */
export function hashSources(root: string, folders: readonly string[] = HASHED): SourceHash {
  const files = folders.filter((path) => existsSync(join(root, path))).flatMap((p) => filesBelow(root, p));
  const hash = createHash("sha256");
  for (const file of files.sort()) {
    const bytes = contents(join(root, file));
    hash.update(`${file}\0${bytes.length}\0`).update(bytes);
  }
  return { hash: hash.digest("hex"), files: files.length };
}
