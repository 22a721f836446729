import type { CpuReport } from "../cpu/report.js";
import { type Spread, short } from "../stats.js";
import { table } from "./table.js";

/** Median, and in brackets from where to where samples went. */
const median = ({ median, least, most }: Spread): string =>
  `${short(median)} (${short(least)}–${short(most)})`;

/** The slowest rank's. */
const slowest = <F>(figures: readonly F[], of: (f: F) => Spread): Spread =>
  figures.map(of).reduce((a, b) => (b.median > a.median ? b : a));

/** The goals, and what was measured. */
function goals({ summary }: CpuReport): string {
  return table(
    ["figure", "goal", "measured"],
    [
      ["`dispatchVsMemcpy`", "≥ 0.5", summary.dispatchVsMemcpy],
      ["`dispatchVsMemcpyForeign`", "–", summary.dispatchVsMemcpyForeign],
      ["`combineVsScalar`", "≥ 3", summary.combineVsScalar],
      ["`idleRoundMicroseconds`", "< 8", summary.idleRoundMicroseconds],
      ["`idleRoundTwoThreadsMicroseconds`", "< 60", summary.idleRoundTwoThreadsMicroseconds],
      ["`idleRoundFourThreadsVsBarriers`", "≤ 1.5", summary.idleRoundFourThreadsVsBarriers],
    ],
  );
}

function copies({ details }: CpuReport): string {
  const rows = details.dispatch.empty.map(({ rowBytes, ranks }, i) => {
    const slow = (figures: typeof ranks) =>
      figures.reduce((a, b) => (b.ratio.median < a.ratio.median ? b : a));
    const [own, foreign] = [slow(ranks), slow(details.dispatch.foreign[i]!.ranks)];
    return [
      `${rowBytes} B`,
      median(own.memcpyGBs),
      median(own.dispatchGBs),
      median(own.ratio),
      median(foreign.ratio),
    ];
  });
  return table(["row", "copies, GB/s", "dispatch, GB/s", "ratio", "ratio, foreign arrays"], rows);
}

function sums({ details }: CpuReport): string {
  const { combine, scalar, scalarByRow, scalarOfFour, ratio, hiddenSize, rows } = details.sum;
  return table(
    [`${rows} rows of ${hiddenSize} bfloat16`, "µs per token"],
    [
      ["plain loop, element after element", median(scalar)],
      ["plain loops, row after row", median(scalarByRow)],
      ["a plain loop written out for four rows", median(scalarOfFour)],
      ["combine", median(combine)],
      ["ratio to the fastest loop", ratio],
    ],
  );
}

function idle({ details }: CpuReport): string {
  const { cpu, wall, retainedBytesPerRound, parts } = details.idleLocal4;
  const threads = ([2, 4] as const).map((ranks) => {
    const figures = ranks === 2 ? details.idleThreads2 : details.idleThreads4;
    return [
      `${ranks} threads`,
      median(slowest(figures, (f) => f.round)),
      median(slowest(figures, (f) => f.barriers)),
      median(slowest(figures, (f) => f.ratio)),
    ];
  });
  return [
    table(
      ["4 ranks on one thread", "µs per round"],
      [
        ["of processors", median(cpu)],
        ["by the clock", median(wall)],
        ["4 × `dispatch()`", parts.dispatch],
        ["4 × `await dispatch.ready()`", parts.dispatchReady],
        ["4 × `combine()`", parts.combine],
        ["4 × `await combine.ready()`", parts.combineReady],
        ["of these, 8 × `await` of a resolved promise", parts.awaits],
        ["of these, 4 × `performance.now()`", parts.clock],
      ],
    ),
    `Of a round, ${short(Math.max(0, retainedBytesPerRound))} bytes are left once garbage is collected.`,
    table(["ranks that block", "round, µs", "two bare barriers, µs", "ratio"], threads),
  ].join("\n\n");
}

function curves({ details }: CpuReport): string {
  const rows = (details.curves ?? []).map(({ name, over, base, points, x, fit }) => {
    const letters = { ranks: "R", tokens: "T", topK: "K", hidden: "H" } as const;
    const others = (Object.keys(letters) as (keyof typeof letters)[]).filter((factor) => factor !== over);
    const fixed = others.map((factor) => `${letters[factor]} ${base[factor]}`).join(", ");
    const values = points.map((p) => `${p.value}: ${short(p.micros)}`).join(", ");
    return [name, fixed, values, `${short(fit.intercept)} + ${short(fit.slope)} per ${x}`, fit.r2.toFixed(3)];
  });
  return table(["over", "else", "µs per rank", "straight line, µs", "R²"], rows);
}

/** What of docs/performance.md is made from the figures. */
export function cpuSection(report: CpuReport): string {
  const { machine, plan } = report;
  return [
    `Measured on ${machine.cpu}, ${machine.threads} processors, Node ${machine.node}: medians of ${plan.samples} samples or ` +
      "more, in brackets the least and the most.",
    goals(report),
    "### Rows",
    copies(report),
    "### Sums",
    sums(report),
    "### Idle rounds",
    idle(report),
    "### Growth",
    curves(report),
    "![Microseconds per rank over ranks, tokens, experts per token and hidden size](figures/cpu-curves.svg)",
  ].join("\n\n");
}
