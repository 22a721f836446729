import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

const readManifest = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));

/** What nothing loads at run time. */
const UNUSED = /\.(map|d\.[cm]?ts|md|tsbuildinfo)$/;
/** Of a package of this repository this alone is needed. */
const OWN = ["package.json", "dist", "moe_a2a.node"];
/** Large parts of single packages that nothing here loads. */
const UNUSED_PARTS: Readonly<Record<string, readonly string[]>> = {
  "gpt-tokenizer": ["cjs", "data", "src", "esm/model", "esm/fixtures"],
};

function copyPackage(from: string, to: string, name: string): void {
  const unused = ["node_modules", ...(UNUSED_PARTS[name] ?? [])];
  const copy = (part: string) =>
    cpSync(join(from, part), join(to, part), {
      recursive: true,
      dereference: true,
      filter: (path) => !UNUSED.test(path) && !unused.includes(relative(from, path)),
    });
  if (!name.startsWith("@moe-a2a")) copy(".");
  else for (const part of OWN) if (existsSync(join(from, part))) copy(part);
}

/** Where Node finds a package that `folder` asks for, or undefined. */
function resolveFrom(folder: string, name: string): string | undefined {
  for (let at = folder; ; at = dirname(at)) {
    const candidate = join(at, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) return realpathSync(candidate);
    if (at === dirname(at)) return undefined;
  }
}

/**
 * Copies programs and all that they load into one tree without links: packages side by side in `node_modules`, and below
 * the one that asks where two versions of one are asked for.
 */
export class PackageTree {
  readonly #target: string;
  /** Versions at the top, by name. */
  readonly #top = new Map<string, string>();
  readonly #visited = new Set<string>();

  constructor(target: string) {
    this.#target = target;
  }

  /** Copies what was built of a program, and its dependencies. */
  addProgram(folder: string, as: string): void {
    const to = join(this.#target, as);
    mkdirSync(to, { recursive: true });
    copyPackage(folder, to, readManifest(folder).name);
    this.#addDependencies(realpathSync(folder), to);
  }

  /** Copies programs that are not built, `.mjs` files, and the dependencies of the package that they are. */
  addScripts(folder: string, as: string): void {
    this.addProgram(folder, as);
    for (const file of readdirSync(folder)) {
      if (file.endsWith(".mjs")) copyFileSync(join(folder, file), join(this.#target, as, file));
    }
  }

  #addDependencies(folder: string, copiedTo: string): void {
    const manifest = readManifest(folder);
    const { dependencies = {}, optionalDependencies = {}, peerDependencies = {} } = manifest;
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      const found = resolveFrom(folder, name);
      if (!found) {
        const optional = name in optionalDependencies || manifest.peerDependenciesMeta?.[name]?.optional;
        if (optional) continue;
        throw new Error(`${manifest.name} needs ${name}, which is not installed below ${folder}`);
      }
      const { version } = readManifest(found);
      const top = this.#top.get(name);
      if (top === version) continue;
      const base = top === undefined ? this.#target : copiedTo;
      if (top === undefined) this.#top.set(name, version);
      const to = join(base, "node_modules", name);
      if (this.#visited.has(to)) continue;
      this.#visited.add(to);
      copyPackage(found, to, name);
      this.#addDependencies(found, to);
    }
  }
}
