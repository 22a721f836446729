import { installedNative } from "../src/loader.js";
import type { Native } from "../src/native.js";

const loaded = installedNative();

/** The addon, where it was built. CI builds it where there is nvcc, and tests that need it are skipped elsewhere. */
export const native: Native | undefined = loaded.native;

/** Why tests of the addon are skipped, for their names. */
export const skipped: string = loaded.native ? "" : ` (skipped: ${loaded.status.reason})`;

/** @throws where the test should have been skipped */
export function addon(): Native {
  if (!native) throw new Error("the addon was not built");
  return native;
}
