import { floorOf } from "../bench/figures.js";
import type { Measured } from "./tables.js";

const BOX = { width: 720, height: 380, left: 60, right: 150, top: 20, bottom: 40 } as const;

type At = readonly [x: number, y: number];

interface Line {
  readonly name: string;
  readonly colour: string;
  readonly points: readonly At[];
}

/** The base case's rounds over tokens, both on scales of powers, next to their bytes alone and to NCCL. */
export function plotRounds(measured: Measured): string {
  const { figures, nccl } = measured;
  const base = figures.rows.filter((r) => r.shape === "deepseek" && r.idle === undefined && r.tokens > 0);
  const others = nccl?.rows.filter((r) => r.shape === "deepseek") ?? [];
  const candidates: Line[] = [
    { name: "moe-a2a", colour: "#1f6feb", points: base.map((r): At => [r.tokens, r.round]) },
    {
      name: "its bytes alone",
      colour: "#888",
      points: base.flatMap((r) => {
        const floor = floorOf(r, figures);
        return floor && floor >= 1 ? [[r.tokens, floor] satisfies At] : [];
      }),
    },
    { name: "NCCL all-to-all", colour: "#d29922", points: others.map((r): At => [r.tokens, r.allToAll]) },
    {
      name: "NCCL gather, scatter",
      colour: "#cf222e",
      points: others.map((r): At => [r.tokens, r.gatherScatter]),
    },
  ];
  const lines = candidates.filter((line) => line.points.length > 0);
  const all = lines.flatMap((line) => line.points);
  const [xMost, yMost] = [Math.max(...all.map(([x]) => x)), Math.max(...all.map(([, y]) => y))];
  const { width, height, left, right, top, bottom } = BOX;
  const x = (v: number) => left + (Math.log2(v) / Math.log2(xMost)) * (width - left - right);
  const y = (v: number) => height - bottom - (Math.log10(v) / Math.log10(yMost)) * (height - top - bottom);
  const px = (v: number) => Number(v.toFixed(1)).toString();
  const at = ([vx, vy]: At) => `${px(x(vx))} ${px(y(vy))}`;
  const text = (tx: number, ty: number, anchor: string, words: string, colour = "#555") =>
    `<text x="${px(tx)}" y="${px(ty)}" text-anchor="${anchor}" fill="${colour}">${words}</text>`;
  const drawn = lines.flatMap(({ name, colour, points }) => {
    const last = points.at(-1)!;
    return [
      `<path d="M${points.map(at).join("L")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...points.map(
        (p) => `<circle cx="${at(p).split(" ")[0]}" cy="${at(p).split(" ")[1]}" r="3" fill="${colour}"/>`,
      ),
      text(x(last[0]) + 8, y(last[1]) + 4, "start", name, colour),
    ];
  });
  const xTicks = [1, 8, 64, 512, 4096].filter((v) => v <= xMost);
  const yTicks = [1, 10, 100, 1000].filter((v) => v <= yMost);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="11">`,
    "<title>Microseconds per round over tokens per rank</title>",
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<path d="M${left} ${top}V${height - bottom}H${width - right}" fill="none" stroke="#888"/>`,
    ...xTicks.map((v) => text(x(v), height - bottom + 16, "middle", String(v))),
    ...yTicks.map((v) => text(left - 6, y(v) + 4, "end", String(v))),
    text((left + width - right) / 2, height - 6, "middle", "tokens per rank"),
    text(left - 6, top - 6, "start", "µs per round"),
    ...drawn,
    "</svg>",
    "",
  ].join("\n");
}
