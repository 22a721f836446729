import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The CUDA compiler: what CUDACXX or CUDA_PATH name, else what is on the PATH or in the usual place, else undefined. */
export function findNvcc() {
  const { CUDACXX, CUDA_PATH, PATH = "" } = process.env;
  const places = [...PATH.split(delimiter), "/usr/local/cuda/bin"].map((place) => join(place, "nvcc"));
  const named = [CUDACXX, CUDA_PATH && join(CUDA_PATH, "bin/nvcc")].filter(Boolean);
  return [...named, ...places].find(isExecutable);
}
