import { availableParallelism, totalmem } from "node:os";
import { type Backend, checkConfig, planWorkspace } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { checkInteger } from "../check.js";
import { probeCuda } from "../cuda.js";
import { checkPreference } from "../select-backend.js";
import type {
  BackendDiagnosis,
  DiagnoseOptions,
  Diagnosis,
  MemoryDiagnosis,
  SystemDiagnosis,
} from "./diagnosis.js";
import { playExactRound } from "./exact-round.js";
import { lookAtGpus } from "./gpus.js";
import { installedPackages, isInRange, NODE_RANGE } from "./installed.js";

const WHERE = "diagnose()";
const JS_RANKS = 3;
const MOST_RANKS = 8;

/** Nothing is wrong where there is no GPU; anything else that keeps CUDA from running is worth mending. */
const HARMLESS = ["CUDA_NOT_INSTALLED", "CUDA_PLATFORM", "CUDA_NO_DRIVER", "CUDA_NO_DEVICE"];

/**
 * Looks at this machine and this installation: versions, backends, GPUs, the memory that a config would take; and plays one
 * small round on each backend that can run, comparing every value. `npx @moe-a2a/sglang doctor` prints it.
 *
 * What is wrong stands in `problems`; it rejects only for its own arguments.
 *
 * @throws (rejects) ERR_MOE_A2A_ARGUMENT; ERR_MOE_A2A_CONFIG for a config value out of range
 */
export async function diagnose(options: DiagnoseOptions = {}): Promise<Diagnosis> {
  const { backend = "auto", timeoutMs = 10_000, config } = options;
  checkPreference(WHERE, backend);
  checkInteger(WHERE, "timeoutMs", timeoutMs, 1, 2 ** 31 - 1);
  const memory = config === undefined ? undefined : planMemory(config);

  const system = lookAtSystem();
  const { packages, problems } = installedPackages();
  if (!isInRange(system.node, system.nodeRange)) {
    problems.unshift(`Node ${system.node} is too old; take ${system.nodeRange}`);
  }
  const cuda = await probeCuda();
  const gpus = await lookAtGpus(cuda.inspect);
  const backends = [
    await examine("cuda", cuda.status, cuda.backend, timeoutMs),
    await examine("js", jsBackend.status(), jsBackend, timeoutMs),
  ];
  if (!cuda.status.available && (backend === "cuda" || !HARMLESS.includes(cuda.status.code))) {
    problems.push(`cuda cannot run: ${cuda.status.reason}; ${cuda.status.hint}`);
  }
  for (const { name, round } of backends) {
    if (round?.problem !== undefined) problems.push(`a round on ${name} fails: ${round.problem}`);
  }
  if (memory) problems.push(...memoryProblems(memory, system, cuda.status.available ? gpus.devices : []));
  return { ok: problems.length === 0, problems, system, packages, backends, gpus, memory };
}

async function examine(
  name: BackendDiagnosis["name"],
  status: BackendDiagnosis["status"],
  backend: Backend | undefined,
  timeoutMs: number,
): Promise<BackendDiagnosis> {
  if (!status.available || backend === undefined) return { name, status, round: undefined };
  // Two GPUs at least are of interest, and one GPU can be two ranks.
  const ranks = name === "js" ? JS_RANKS : Math.min(Math.max(status.devices.length, 2), MOST_RANKS);
  return { name, status, round: await playExactRound(backend, ranks, timeoutMs) };
}

function lookAtSystem(): SystemDiagnosis {
  return {
    node: process.versions.node,
    nodeRange: NODE_RANGE,
    platform: `${process.platform}-${process.arch}`,
    glibc: glibcVersion(),
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
  };
}

function glibcVersion(): string | undefined {
  const report = process.report as { excludeNetwork?: boolean; getReport(): object } | undefined;
  if (report === undefined) return undefined;
  const { excludeNetwork } = report;
  // The report would look up the names of this machine's connections, which takes seconds where there is no network.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
  report.excludeNetwork = excludeNetwork ?? false;
  return header?.glibcVersionRuntime;
}

function planMemory(config: NonNullable<DiagnoseOptions["config"]>): MemoryDiagnosis {
  const checked = checkConfig(config);
  return {
    config: checked,
    plan: planWorkspace(checked),
    processPlan: planWorkspace(checked, { sharedMemory: false }),
  };
}

/** A rank has to fit; how many ranks a machine has is not known here. */
function memoryProblems(
  { plan: { totalBytes } }: MemoryDiagnosis,
  { memoryBytes }: SystemDiagnosis,
  devices: Diagnosis["gpus"]["devices"],
): string[] {
  const problems: string[] = [];
  const advice = "lower maxTokensPerRank, or see largestCapacity() for what fits";
  for (const { id, memoryBytes } of devices) {
    if (totalBytes > memoryBytes)
      problems.push(`a rank takes ${totalBytes} bytes, and GPU ${id} has ${memoryBytes}; ${advice}`);
  }
  if (devices.length === 0 && totalBytes > memoryBytes)
    problems.push(`a rank takes ${totalBytes} bytes, and this machine has ${memoryBytes}; ${advice}`);
  return problems;
}
