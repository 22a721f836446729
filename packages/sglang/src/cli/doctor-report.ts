import { formatWorkspacePlan } from "@moe-a2a/core";
import type {
  BackendDiagnosis,
  Diagnosis,
  GpuDevice,
  GpuDiagnosis,
  MemoryDiagnosis,
} from "../diagnose/diagnosis.js";

const GIB = 2 ** 30;
const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;

/** A diagnosis for people. */
export function formatDiagnosis(diagnosis: Diagnosis): string {
  const { system, packages, backends, gpus, memory, problems } = diagnosis;
  const libc = system.glibc === undefined ? "" : `, glibc ${system.glibc}`;
  const lines = [
    "System",
    `  Node ${system.node} (${system.nodeRange} is needed), ${system.platform}${libc}`,
    `  ${system.cpus} CPUs, ${gib(system.memoryBytes)} of memory`,
    "",
    "Packages",
    ...packages.map(({ name, version }) => `  ${name.padEnd(24)} ${version ?? "not installed"}`),
    "",
    "Backends",
    ...backends.flatMap(formatBackend),
    "",
    "GPUs",
    ...formatGpus(gpus).map((line) => `  ${line}`),
  ];
  if (memory) lines.push("", "Memory of the config, per rank", ...formatMemory(memory));
  lines.push("", problems.length === 0 ? "No problems." : `Problems: ${problems.length}`);
  for (const problem of problems) lines.push(`  - ${problem}`);
  return `${lines.join("\n")}\n`;
}

function formatBackend({ name, status, round }: BackendDiagnosis): string[] {
  if (!status.available) {
    return [`  ${name.padEnd(5)} cannot run (${status.code}): ${status.reason}`, `        → ${status.hint}`];
  }
  const devices = status.devices.map((device) => `${device.type} ${device.id}: ${device.name}`);
  const lines = [`  ${name.padEnd(5)} can run on ${devices.join(", ")}`];
  // Without that the backend would not run.
  if (name === "cuda" && devices.length > 1)
    lines.push("        each GPU can reach the memory of the others");
  if (round) {
    const { ranks, ms, problem } = round;
    const result = problem === undefined ? "exact" : `FAILED: ${problem}`;
    lines.push(`        a round of ${ranks} ranks, one of them idle: ${result} (${ms.toFixed(0)} ms)`);
  }
  return lines;
}

function formatGpus(gpus: GpuDiagnosis): string[] {
  const { source, driver, cuda, devices, links, peerAccess, peerAtomics, visibleDevices } = gpus;
  const lines: string[] = [];
  if (source === undefined) lines.push("neither CUDA nor nvidia-smi shows any");
  if (driver !== undefined || cuda !== undefined) {
    lines.push(`driver ${driver ?? "of unknown release"}${cuda === undefined ? "" : `, CUDA ${cuda}`}`);
  }
  lines.push(...devices.map(formatGpu));
  if (visibleDevices !== undefined) lines.push(`CUDA_VISIBLE_DEVICES is ${JSON.stringify(visibleDevices)}`);
  lines.push(
    ...formatMatrix("links", links),
    ...formatMatrix("peer access", peerAccess),
    ...formatMatrix("peer atomics", peerAtomics),
  );
  return lines;
}

function formatGpu(device: GpuDevice): string {
  const { id, name, pciBusId, computeCapability, multiprocessors, memoryBytes, freeBytes } = device;
  const parts = multiprocessors === undefined ? [] : [`${multiprocessors} multiprocessors`];
  const free = freeBytes === undefined ? "not usable here, of" : `${gib(freeBytes)} free of`;
  return [
    `${id}: ${name} at ${pciBusId}`,
    `compute capability ${computeCapability}`,
    ...parts,
    `${free} ${gib(memoryBytes)}`,
  ].join(", ");
}

function formatMatrix(title: string, matrix: readonly (readonly string[])[]): string[] {
  const rows = matrix.map((row, id) => [`GPU${id}`, ...row]);
  return rows.length === 0
    ? []
    : [
        `${title}:`,
        ...rows.map((row) =>
          row
            .map((cell) => cell.padEnd(6))
            .join("")
            .trimEnd(),
        ),
      ];
}

function formatMemory({ plan, processPlan }: MemoryDiagnosis): string[] {
  const table = formatWorkspacePlan(plan).split("\n");
  const extra = processPlan.totalBytes - plan.totalBytes;
  return [
    ...table.map((line) => `  ${line}`),
    `  CPU ranks in processes take ${extra.toLocaleString("en-US")} bytes more.`,
  ];
}
