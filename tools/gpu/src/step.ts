import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecResult, Executor } from "./exec.js";
import type { StepResult } from "./report.js";

/** What a step has to work with. */
export interface StepContext {
  /** The bundle's folder, unpacked. */
  readonly bundle: string;
  readonly exec: Pick<Executor, "run">;
  /** Seconds that are left for the whole run. */
  left(): number;
  readonly gpus: number;
  readonly options: RunOptions;
  /** What the probe of this run measured, once it has. */
  probe: Probe | undefined;
  /** A file that the step's program may write. */
  scratch(name: string): string;
}

export interface RunOptions {
  readonly soakRounds: number;
  readonly replays: number;
  readonly worldRounds: number | undefined;
  readonly filters: readonly string[];
  readonly samples: number;
}

/** What `probe/probe.cu` prints, as far as it is used. */
export interface Probe {
  /** These three take more than one GPU. */
  readonly storeGBs?: number;
  readonly loadGBs?: number;
  readonly pingPongNs?: number;
  readonly launchHostUs: number;
  readonly launchDeviceUs: number;
}

/** What a step tells; its name and seconds are added. */
export type Outcome = Omit<StepResult, "name" | "seconds">;

/** A step, with the seconds that it gets at most. */
export interface Step {
  readonly limit: number;
  run(context: StepContext, limit: number): Promise<Outcome>;
}

/** Where a tool of the bundle has its programs. */
export const app = (context: StepContext, tool: string): string =>
  join(context.bundle, "app/tools", tool, "dist");

/** What a program's end means, where its exit code tells. */
export function judge({ code, tail }: ExecResult): Outcome {
  if (code === undefined) return { status: "timeout", detail: tail };
  return code === 0 ? { status: "passed" } : { status: "failed", detail: tail };
}

/** What a program printed; undefined where that is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const readJson = (file: string): unknown =>
  existsSync(file) ? parseJson(readFileSync(file, "utf8")) : undefined;
