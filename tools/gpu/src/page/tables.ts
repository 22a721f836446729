import { type BenchFigures, type BenchRow, compare, floorOf, type Reference } from "../bench/figures.js";
import type { Probe } from "../step.js";
import { rowsSentTo } from "./model.js";

/** What `peers/nccl.py` measured. */
export interface NcclFigures {
  readonly torch: string;
  readonly nccl: string;
  readonly ranks: number;
  readonly rows: readonly {
    readonly shape: string;
    readonly tokens: number;
    readonly allToAll: number;
    readonly gatherScatter: number;
  }[];
}

/** What one number of GPUs came to. */
export interface Measured {
  readonly figures: BenchFigures;
  readonly probe: Probe | undefined;
  readonly nccl: NcclFigures | undefined;
}

/** Three digits are as much as holds from run to run. */
export const us = (value: number | undefined): string =>
  value === undefined ? "–" : value < 100 ? value.toFixed(1) : value.toFixed(0);

const times = (ratio: number | undefined): string => (ratio === undefined ? "–" : `${ratio.toFixed(2)} ×`);

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(header), `|${"---|".repeat(header.length)}`, ...rows.map(line)].join("\n");
}

const plain = ({ figures }: Measured, shape: string): BenchRow[] =>
  figures.rows.filter((row) => row.shape === shape && row.idle === undefined);

const ncclOf = ({ nccl }: Measured, { shape, tokens }: BenchRow) =>
  nccl?.rows.find((row) => row.shape === shape && row.tokens === tokens);

const label = ({ tokens, slots }: BenchRow): string => `${tokens}${slots === 0 ? " (m = 0)" : ""}`;

/** What the GPUs do at most, in the same run. */
export function limits({ probe }: Measured): string {
  if (!probe) return "";
  const { storeGBs, loadGBs, pingPongNs } = probe;
  return table(
    ["limit, all GPUs at once", "measured"],
    [
      ...(storeGBs === undefined ? [] : [["stores to the others", `${storeGBs} GB/s`]]),
      ...(loadGBs === undefined ? [] : [["loads from the others", `${loadGBs} GB/s`]]),
      ...(pingPongNs === undefined
        ? []
        : [["a flag to another GPU and back", `${(pingPongNs / 1000).toFixed(1)} µs`]]),
      ["a kernel launch, back to back: host, device", `${probe.launchHostUs}, ${probe.launchDeviceUs} µs`],
    ],
  );
}

/** The base case over tokens, next to what its bytes take at the rate of stores, and next to others. */
export function baseCase(measured: Measured, reference: Reference): string {
  const { figures } = measured;
  const rows = plain(measured, "deepseek").map((row) => {
    const floor = floorOf(row, figures);
    const nccl = ncclOf(measured, row);
    const theirs = compare(row, "round", figures, reference)?.theirs;
    const best = nccl && Math.min(nccl.allToAll, nccl.gatherScatter);
    return [
      label(row),
      us(row.dispatch),
      us(row.combine),
      `${us(row.round)} (${us(row.roundLeast)}–${us(row.roundP99)})`,
      us(row.rotating),
      us(floor),
      floor ? `${((100 * floor) / row.round).toFixed(0)} %` : "–",
      us(nccl?.allToAll),
      us(nccl?.gatherScatter),
      times(best && best / row.round),
      ...(figures.ranks === reference.ranks ? [us(theirs)] : []),
    ];
  });
  return table(
    [
      "T",
      "dispatch",
      "combine",
      "round (least–p99)",
      "rotating inputs",
      "its bytes",
      "share of the limit",
      "NCCL all-to-all",
      "NCCL gather, scatter",
      "best NCCL over ours",
      ...(figures.ranks === reference.ranks ? ["FlashInfer, scaled"] : []),
    ],
    rows,
  );
}

/** Rounds of shapes over tokens. */
export function rounds(measured: Measured, shapes: readonly string[]): string {
  const { figures } = measured;
  const all = shapes.flatMap((shape) =>
    plain(measured, shape).flatMap((row) => (row.slots > 0 ? [row.tokens] : [])),
  );
  // Where there is something to compare.
  const tokens = [...new Set(all)].filter((t) => all.filter((other) => other === t).length > 1);
  tokens.sort((a, b) => a - b);
  const cell = (shape: string, t: number): string => {
    const row = plain(measured, shape).find((r) => r.tokens === t && r.slots > 0);
    if (!row) return "–";
    const floor = floorOf(row, figures);
    return floor ? `${us(row.round)} (${us(floor)})` : us(row.round);
  };
  return table(
    ["round, µs (its bytes)", ...tokens.map((t) => `T ${t}`)],
    shapes
      .filter((shape) => plain(measured, shape).length > 0)
      .map((shape) => [shape, ...tokens.map((t) => cell(shape, t))]),
  );
}

/** The base case where ranks have different numbers of tokens. */
export function idleRanks({ figures }: Measured): string {
  const rows = figures.rows.filter((row) => row.shape === "deepseek");
  const full = (tokens: number) => rows.find((r) => r.tokens === tokens && !r.idle && r.slots > 0);
  return table(
    ["T", "idle", "dispatch", "combine", "round", "no rank idle"],
    rows
      .filter((row) => row.idle !== undefined)
      .map((row) => [
        label(row),
        row.idle!,
        us(row.dispatch),
        us(row.combine),
        us(row.round),
        us(full(row.tokens)?.round),
      ]),
  );
}

/** What the host takes to enqueue. */
export function host(measured: Measured): string {
  return table(
    ["T", "dispatch()", "combine()", "replay of 20 rounds"],
    plain(measured, "deepseek").map((row) => [
      label(row),
      us(row.host?.dispatch),
      us(row.host?.combine),
      us(row.host?.replay),
    ]),
  );
}

/** The same of one token once all code is warm, next to a launch alone as the probe of the same run makes it. */
export function warmHost({ figures: { host }, probe }: Measured): string {
  if (!host) return "";
  const bare = probe?.launchHostUs;
  const calls = [host.dispatch, host.combine, host.replay];
  const cell = (value: number): string => value.toFixed(2);
  const beyond = bare === undefined ? [] : [["beyond a launch", ...calls.map((v) => cell(v - bare)), ""]];
  return table(
    ["", "dispatch()", "combine()", "replay of one round", "a launch alone"],
    [["in all", ...calls.map(cell), bare === undefined ? "–" : cell(bare)], ...beyond],
  );
}

/** Not measured: what bytes alone take as the ranks of one NVLink domain grow, at the rate of this run's stores. */
export function growth({ figures }: Measured): string {
  const store = figures.storeGBs;
  if (!store) return "";
  const bytes = 7168 * 4 + 8 * 8;
  return table(
    ["ranks R", "rows per token to other ranks", "T 128, µs", "T 4096, µs"],
    [2, 4, 8, 16, 32, 64].map((ranks) => {
      const rows = rowsSentTo(ranks, 8, 256);
      return [
        String(ranks),
        rows.toFixed(2),
        ...[128, 4096].map((t) => us((t * rows * bytes) / store / 1000)),
      ];
    }),
  );
}
