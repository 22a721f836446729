import { execFile } from "node:child_process";
import { stripVTControlCharacters } from "node:util";
import type { GpuDevice } from "./diagnosis.js";

const LIMIT_MS = 10_000;
const MIB = 2 ** 20;
const FIELDS = [
  "index",
  "pci.bus_id",
  "name",
  "driver_version",
  "compute_cap",
  "memory.total",
  "memory.free",
];

/** What `nvidia-smi` prints, or an empty text where it is not there or fails. */
function nvidiaSmi(...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile("nvidia-smi", args, { timeout: LIMIT_MS }, (error, stdout) => resolve(error ? "" : stdout));
  });
}

/** What the tool says of all GPUs of the machine. */
export interface ToolGpus {
  readonly driver: string | undefined;
  readonly devices: readonly GpuDevice[];
  readonly peerAccess: readonly (readonly string[])[];
}

/** All GPUs of the machine, usable or not. Never rejects. */
export async function askDevices(): Promise<ToolGpus> {
  const list = await nvidiaSmi(`--query-gpu=${FIELDS.join(",")}`, "--format=csv,noheader,nounits");
  const { driver, devices } = readDevices(list);
  const access = devices.length > 1 ? await nvidiaSmi("topo", "-p2p", "r") : "";
  return { driver, devices, peerAccess: readMatrix(access, devices.length) };
}

/** How the GPUs at these addresses are linked, in this order; empty where the tool cannot say. Never rejects. */
export async function askLinks(pciBusIds: readonly string[]): Promise<string[][]> {
  const [addresses, links] = await Promise.all([
    nvidiaSmi("--query-gpu=pci.bus_id", "--format=csv,noheader"),
    nvidiaSmi("topo", "-m"),
  ]);
  const known = addresses.split("\n").filter((line) => line.trim() !== "");
  return pickMatrix(readMatrix(links, known.length), known, pciBusIds);
}

/** The tool writes the PCI domain with eight digits, CUDA with four. */
export function normalPciBusId(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replace(/^0{4}(?=[0-9a-f]{4}:)/, "");
}

/** The rows and columns of `matrix`, which are in the order of `known`, for `wanted`; empty where one is not known. */
export function pickMatrix(
  matrix: readonly (readonly string[])[],
  known: readonly string[],
  wanted: readonly string[],
): string[][] {
  const order = known.map(normalPciBusId);
  const places = wanted.map((id) => order.indexOf(normalPciBusId(id)));
  if (matrix.length === 0 || places.includes(-1)) return [];
  return places.map((row) => places.map((column) => matrix[row]![column]!));
}

/** Reads the lines of `nvidia-smi --query-gpu`. */
export function readDevices(text: string): Pick<ToolGpus, "driver" | "devices"> {
  let driver: string | undefined;
  const devices: GpuDevice[] = [];
  for (const line of text.split("\n")) {
    const cells = line.split(", ");
    if (cells.length !== FIELDS.length) continue;
    const [id, pciBusId, name, version, computeCapability, total, free] = cells as [string, ...string[]];
    driver = version;
    devices.push({
      id: Number(id),
      name: name!,
      pciBusId: normalPciBusId(pciBusId!),
      computeCapability: computeCapability!,
      multiprocessors: undefined,
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
