import { checkConfig, type MoeAllToAllConfig } from "./config.js";
import { MoeA2AError } from "./errors.js";
import { layoutWorkspace, type Region, type WorkspaceOptions } from "./layout.js";
import { describe } from "./tensor.js";

/** What one rank allocates at `create`, exactly and once. */
export interface WorkspacePlan {
  readonly regions: readonly Region[];
  /** Bytes that peers can see. */
  readonly windowBytes: number;
  /** Bytes that only this rank uses. */
  readonly privateBytes: number;
  /** `windowBytes + privateBytes`. */
  readonly totalBytes: number;
}

/**
 * Bytes per rank by region, before anything is allocated.
 *
 * @param options `sharedMemory: false` for CPU ranks in processes
 * @throws ERR_MOE_A2A_CONFIG for a value out of range
 */
export function planWorkspace(config: MoeAllToAllConfig, options?: WorkspaceOptions): WorkspacePlan {
  const { regions, windowBytes, privateBytes } = layoutWorkspace(checkConfig(config), options);
  return { regions, windowBytes, privateBytes, totalBytes: windowBytes + privateBytes };
}

/**
 * The largest `maxTokensPerRank` whose plan fits into `budgetBytes` per rank; 0 where not even one token fits.
 *
 * @param bytesOf which part of the plan the budget is for, default all of it
 */
export function largestCapacity(
  config: Omit<MoeAllToAllConfig, "maxTokensPerRank">,
  budgetBytes: number,
  bytesOf: (plan: WorkspacePlan) => number = (plan) => plan.totalBytes,
  options?: WorkspaceOptions,
): number {
  if (typeof budgetBytes !== "number" || !(budgetBytes >= 0)) {
    throw new MoeA2AError(
      "ERR_MOE_A2A_ARGUMENT",
      `budgetBytes is ${describe(budgetBytes)}; it must be a number >= 0`,
      {
        argument: "budgetBytes",
      },
    );
  }
  const fits = (m: number): boolean =>
    bytesOf(planWorkspace({ ...config, maxTokensPerRank: m }, options)) <= budgetBytes;
  if (!fits(1)) return 0;
  let low = 1;
  let high = 2 ** 31 - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The plan as a table of text, one region per line. */
export function formatWorkspacePlan(plan: WorkspacePlan): string {
  const rows = [
    ["region", "lane", "memory", "bytes", "what"],
    ...plan.regions.map((r) => [
      r.name,
      r.lane?.toString() ?? "-",
      r.memory,
      r.bytes.toLocaleString("en-US"),
      r.purpose,
    ]),
    ["total", "", "window", plan.windowBytes.toLocaleString("en-US"), "visible to peers"],
    ["total", "", "private", plan.privateBytes.toLocaleString("en-US"), "this rank's own"],
    ["total", "", "", plan.totalBytes.toLocaleString("en-US"), "per rank"],
  ];
  const widths = [0, 1, 2, 3].map((c) => Math.max(...rows.map((row) => row[c]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, c) => (c === 3 ? cell.padStart(widths[c]!) : c === 4 ? cell : cell.padEnd(widths[c]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
