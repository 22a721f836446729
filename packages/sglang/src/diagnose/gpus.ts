import { execFile } from "node:child_process";
import { stripVTControlCharacters } from "node:util";
import type { GpuDevice, GpuDiagnosis } from "./diagnosis.js";

const LIMIT_MS = 10_000;
const MIB = 2 ** 20;
const FIELDS = ["index", "name", "driver_version", "compute_cap", "memory.total", "memory.free"];

/** What `nvidia-smi` prints, or an empty text where it is not there or fails. */
function nvidiaSmi(...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile("nvidia-smi", args, { timeout: LIMIT_MS }, (error, stdout) => resolve(error ? "" : stdout));
  });
}

/** Asks the driver's own tool; where there is none, nothing is known. Never rejects. */
export async function askGpus(): Promise<GpuDiagnosis> {
  const visibleDevices = process.env.CUDA_VISIBLE_DEVICES;
  const list = await nvidiaSmi(`--query-gpu=${FIELDS.join(",")}`, "--format=csv,noheader,nounits");
  const { driver, devices } = readDevices(list);
  const several = devices.length > 1;
  const [links, peerAccess] = await Promise.all([
    several ? nvidiaSmi("topo", "-m") : "",
    several ? nvidiaSmi("topo", "-p2p", "r") : "",
  ]);
  return {
    driver,
    devices,
    links: readMatrix(links, devices.length),
    peerAccess: readMatrix(peerAccess, devices.length),
    visibleDevices,
  };
}

/** Reads the lines of `nvidia-smi --query-gpu`. */
export function readDevices(text: string): Pick<GpuDiagnosis, "driver" | "devices"> {
  let driver: string | undefined;
  const devices: GpuDevice[] = [];
  for (const line of text.split("\n")) {
    const cells = line.split(", ");
    if (cells.length !== FIELDS.length) continue;
    const [id, name, version, computeCapability, total, free] = cells as [string, ...string[]];
    driver = version;
    devices.push({
      id: Number(id),
      name: name!,
      computeCapability: computeCapability!,
      memoryBytes: Number(total) * MIB,
      freeBytes: Number(free) * MIB,
    });
  }
  return { driver, devices };
}

/** Reads a matrix of `nvidia-smi topo`, GPUs only; empty where the text holds none of this size. */
export function readMatrix(text: string, size: number): string[][] {
  const rows: string[][] = [];
  // Headings are underlined on terminals, and elsewhere too.
  for (const line of stripVTControlCharacters(text).split("\n")) {
    const [name, ...cells] = line.trim().split(/\s+/);
    if (name === `GPU${rows.length}` && cells.length >= size && cells[rows.length] === "X")
      rows.push(cells.slice(0, size));
  }
  return rows.length === size ? rows : [];
}
