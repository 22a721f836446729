import { spawnSync } from "node:child_process";
import { cpus, release } from "node:os";
import type { Machine } from "./report.js";

/** What this machine is. Without a GPU or a driver its list of GPUs is empty. */
export function describeMachine(): Machine {
  const fields = "name,memory.total,driver_version";
  const { stdout } = spawnSync("nvidia-smi", [`--query-gpu=${fields}`, "--format=csv,noheader,nounits"], {
    encoding: "utf8",
  });
  const lines = (stdout ?? "").trim().split("\n").filter(Boolean);
  const rows = lines.map((line) => line.split(",").map((cell) => cell.trim()));
  return {
    gpus: rows.map(([name = "", memory]) => ({ name, memoryMiB: Number(memory) })),
    driver: rows[0]?.[2] ?? "none",
    node: process.version,
    cores: cpus().length,
    kernel: release(),
  };
}
