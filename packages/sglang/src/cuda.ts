import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { type Backend, type BackendStatus, type CudaTensor, describe } from "@moe-a2a/core";
import type { GpuDevice } from "./diagnose/diagnosis.js";
import { OWN_FILE, OWN_MANIFEST } from "./own-manifest.js";

/** The CUDA backend's package, an optional peer of this one. */
export const CUDA_PACKAGE = "@moe-a2a/cuda";

export type UnavailableStatus = Extract<BackendStatus, { readonly available: false }>;

/** What became of the attempt to get the CUDA backend; without a backend, `status` says why. */
export type CudaProbe = (
  | {
      readonly installed: true;
      readonly backend: Backend<CudaTensor>;
      readonly status: Extract<BackendStatus, { readonly available: true }>;
    }
  | { readonly installed: boolean; readonly backend?: undefined; readonly status: UnavailableStatus }
) & {
  /** Asks about the GPUs, whether or not the backend can run. */
  readonly inspect?: (() => Promise<CudaGpus>) | undefined;
};

/** What `inspectGpus()` of the CUDA package tells. */
export interface CudaGpus {
  readonly driver: string | undefined;
  readonly driverCuda: string | undefined;
  readonly devices: readonly (GpuDevice & { readonly uuid: string })[];
  readonly peers: readonly (readonly { readonly access: boolean; readonly atomics: boolean }[])[];
}

/** Loads the CUDA backend and asks it whether it can run here. Never rejects. */
export async function probeCuda(): Promise<CudaProbe> {
  let loaded: { readonly cudaBackend?: unknown; readonly inspectGpus?: unknown };
  try {
    // A variable, so that neither compilers nor bundlers ask for a package that may be absent.
    const specifier: string = CUDA_PACKAGE;
    loaded = await import(/* @vite-ignore */ specifier);
  } catch (e) {
    return isInstalled()
      ? unusable("CUDA_LOAD_FAILED", `${CUDA_PACKAGE} is installed but does not load: ${text(e)}`)
      : NOT_INSTALLED;
  }
  const backend = loaded.cudaBackend;
  if (!isBackend(backend)) {
    return unusable(
      "CUDA_LOAD_FAILED",
      `${CUDA_PACKAGE} is installed but exports no backend: cudaBackend is ${describe(backend)}`,
    );
  }
  try {
    const versions = differentVersions();
    if (versions !== undefined) return unusable("CUDA_VERSION", versions);
    const status = backend.status();
    const inspect =
      typeof loaded.inspectGpus === "function" ? (loaded.inspectGpus as CudaProbe["inspect"]) : undefined;
    return status.available
      ? { installed: true, backend, status, inspect }
      : { installed: true, status, inspect };
  } catch (e) {
    return unusable("CUDA_STATUS_FAILED", `${CUDA_PACKAGE} is installed but its status() throws: ${text(e)}`);
  }
}

const NOT_INSTALLED: CudaProbe = {
  installed: false,
  status: {
    available: false,
    code: "CUDA_NOT_INSTALLED",
    reason: `${CUDA_PACKAGE} is not installed`,
    hint: `npm i ${CUDA_PACKAGE}`,
  },
};

function unusable(code: string, reason: string): CudaProbe {
  const hint = `reinstall it in the version of @moe-a2a/sglang, with its optional dependencies: npm i ${CUDA_PACKAGE}`;
  return { installed: true, status: { available: false, code, reason, hint } };
}

// The loader's error is the same for an absent package and for one with an import missing, so its manifest is looked for:
// where an import would look, which is not everywhere that require() looks.
function isInstalled(): boolean {
  const folders = createRequire(OWN_FILE).resolve.paths(CUDA_PACKAGE) ?? [];
  return folders.some(
    (folder) =>
      OWN_FILE.startsWith(dirname(folder)) && existsSync(join(folder, CUDA_PACKAGE, "package.json")),
  );
}

/** The packages are released together, and only tested together. */
function differentVersions(): string | undefined {
  const manifest = createRequire(OWN_FILE)(`${CUDA_PACKAGE}/package.json`) as { readonly version?: unknown };
  const [own, found] = [OWN_MANIFEST.version, manifest.version];
  return found === own
    ? undefined
    : `${CUDA_PACKAGE} has version ${found}, and @moe-a2a/sglang has version ${own}`;
}

function isBackend(value: unknown): value is Backend<CudaTensor> {
  const backend = value as Partial<Backend> | null | undefined;
  return typeof backend?.status === "function" && typeof backend.create === "function";
}

function text(e: unknown): string {
  return e instanceof Error ? e.message : describe(e);
}
