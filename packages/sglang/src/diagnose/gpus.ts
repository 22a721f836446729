import type { CudaGpus } from "../cuda.js";
import type { GpuDevice, GpuDiagnosis } from "./diagnosis.js";
import { askDevices, askLinks } from "./nvidia-smi.js";

/**
 * Asks CUDA about the GPUs, where its package can be asked, and the driver's own tool for what CUDA does not tell: how they
 * are linked; everything, where CUDA shows none. Never rejects.
 */
export async function lookAtGpus(inspect?: () => Promise<CudaGpus>): Promise<GpuDiagnosis> {
  const found = await ask(inspect);
  return found !== undefined && found.devices.length > 0 ? await ofCuda(found) : await ofTool(found);
}

/** A GPU that cannot be asked is the backend's problem, which has its own place in the diagnosis. */
async function ask(inspect: (() => Promise<CudaGpus>) | undefined): Promise<CudaGpus | undefined> {
  try {
    return await inspect?.();
  } catch {
    return undefined;
  }
}

async function ofCuda({ driver, driverCuda, devices, peers }: CudaGpus): Promise<GpuDiagnosis> {
  const several = devices.length > 1;
  const matrix = (can: (peer: CudaGpus["peers"][number][number]) => boolean): string[][] =>
    several ? peers.map((row, id) => row.map((peer, other) => mark(id === other, can(peer)))) : [];
  return {
    source: "cuda",
    driver,
    cuda: driverCuda,
    devices: devices.map(({ uuid: _, ...device }) => device),
    links: several ? await askLinks(devices.map(({ pciBusId }) => pciBusId)) : [],
    peerAccess: matrix(({ access }) => access),
    peerAtomics: matrix(({ atomics }) => atomics),
    visibleDevices: visibleDevices(),
  };
}

async function ofTool(found: CudaGpus | undefined): Promise<GpuDiagnosis> {
  const { driver = found?.driver, devices, peerAccess } = await askDevices();
  const links = devices.length > 1 ? await askLinks(devices.map(pciBusIdOf)) : [];
  return {
    source: devices.length > 0 ? "nvidia-smi" : undefined,
    driver,
    cuda: found?.driverCuda,
    devices,
    links,
    peerAccess,
    peerAtomics: [],
    visibleDevices: visibleDevices(),
  };
}

const pciBusIdOf = ({ pciBusId }: GpuDevice): string => pciBusId;

const visibleDevices = (): string | undefined => process.env.CUDA_VISIBLE_DEVICES;

/** The words of `nvidia-smi topo`. */
const mark = (isItself: boolean, can: boolean): string => (isItself ? "X" : can ? "OK" : "NS");
