import { createRequire } from "node:module";
import type { BackendStatus } from "@moe-a2a/core";
import type { Native } from "./native.js";

export type UnavailableStatus = Extract<BackendStatus, { readonly available: false }>;

/** The version of the C interface that this code was written for. */
const INTERFACE_VERSION = 3;

const PACKAGE = "@moe-a2a/cuda";

/** What released native code needs. */
const NEEDS = "Node 20.19 and glibc 2.28 or newer";

/** Platforms that there is a package with native code for. */
const PLATFORM_PACKAGES: Readonly<Record<string, string>> = { "linux-x64": "@moe-a2a/cuda-linux-x64" };

export type Loaded =
  | { readonly native: Native; readonly status?: undefined }
  | { readonly native?: undefined; readonly status: UnavailableStatus };

/** Where to look for the native code, and for whom. */
export interface LoadOptions {
  /** A file whose `node_modules` are looked through. */
  readonly from: string | URL;
  /** The version of this package. */
  readonly version: string;
  /** As `process.platform` and `process.arch`. */
  readonly platform?: string;
  /** The version of glibc, or undefined where there is none. */
  readonly glibc?: string | undefined;
}

/** The version of the glibc that this process runs with; undefined with another C library. */
function glibcVersion(): string | undefined {
  if (process.platform !== "linux") return undefined;
  const report: typeof process.report & { excludeNetwork?: boolean } = process.report;
  const { excludeNetwork } = report;
  // Else it would look up names of hosts that there are connections to.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } };
  report.excludeNetwork = excludeNetwork ?? false;
  return header?.glibcVersionRuntime;
}

function unavailable(code: string, reason: string, hint: string): { readonly status: UnavailableStatus } {
  return { status: { available: false, code, reason, hint } };
}

/** Loads the native code of this platform, or says why there is none. Never throws. */
export function loadNative({
  from,
  version,
  platform = `${process.platform}-${process.arch}`,
  ...options
}: LoadOptions): Loaded {
  const name = PLATFORM_PACKAGES[platform];
  if (name === undefined) {
    return unavailable(
      "CUDA_PLATFORM",
      `${PACKAGE} has no native code for ${platform}`,
      `run on ${Object.keys(PLATFORM_PACKAGES).join(" or ")}, or take the js backend`,
    );
  }
  // Only asked for where something is missing, as it takes a while.
  const glibc = () => ("glibc" in options ? options.glibc : glibcVersion());
  const reinstall = `npm i ${PACKAGE}@${version}, without --omit=optional`;
  const require = createRequire(from);
  let found: string;
  try {
    found = String((require(`${name}/package.json`) as { readonly version?: unknown }).version);
  } catch {
    if (platform.startsWith("linux") && glibc() === undefined) {
      return unavailable(
        "CUDA_PLATFORM",
        `${PACKAGE} has no native code for ${platform} without glibc, as on Alpine`,
        `run on a distribution with glibc (${NEEDS}), or take the js backend`,
      );
    }
    return unavailable(
      "CUDA_BINARY_MISSING",
      `the package of the native code, ${name}, is not installed`,
      reinstall,
    );
  }
  if (found !== version) {
    return unavailable(
      "CUDA_BINARY_VERSION",
      `${name} has version ${found}, and ${PACKAGE} has version ${version}`,
      `install both in one version: ${reinstall}`,
    );
  }
  let native: Native;
  try {
    require.resolve(name);
  } catch {
    return unavailable(
      "CUDA_BINARY_MISSING",
      `${name} is installed without its native code, moe_a2a.node`,
      `${reinstall}; in a clone of the repository: npm run build:native (needs nvcc)`,
    );
  }
  try {
    native = require(name) as Native;
  } catch (error) {
    return unavailable(
      "CUDA_BINARY_BROKEN",
      `${name} does not load: ${(error as Error).message}`,
      `it needs ${NEEDS}, and this is Node ${process.versions.node} with glibc ${glibc() ?? "missing"}; ${reinstall}`,
    );
  }
  const { packageVersion, interfaceVersion } = native;
  if (packageVersion !== version || interfaceVersion !== INTERFACE_VERSION) {
    return unavailable(
      "CUDA_BINARY_VERSION",
      `the native code of ${name} was built for version ${packageVersion} (interface ${interfaceVersion}), and ${PACKAGE} ` +
        `has version ${version} (interface ${INTERFACE_VERSION})`,
      `${reinstall}; in a clone of the repository: npm run build:native`,
    );
  }
  return { native };
}

let loaded: Loaded | undefined;

/** The native code of this installation; asked for once per thread, where it was found. */
export function installedNative(): Loaded {
  if (loaded?.native) return loaded;
  const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string };
  loaded = loadNative({ from: import.meta.url, version });
  return loaded;
}
