import type { Curve } from "../cpu/curves.js";
import { short } from "../stats.js";

const PANEL = { width: 300, height: 200, left: 46, right: 14, top: 28, bottom: 34 } as const;
const COLUMNS = 3;

/** Numbers of an SVG: a tenth of a pixel is enough. */
const px = (value: number): string => Number(value.toFixed(1)).toString();

/** One curve: what was measured as dots, the straight line that fits them, and the ends of both axes. */
function panel(curve: Curve, column: number, row: number): string {
  const points = curve.points.map((p) => ({ x: curve.x === "rows" ? p.rows : p.value, y: p.micros }));
  const xMost = Math.max(...points.map(({ x }) => x));
  const yMost = Math.max(...points.map(({ y }) => y));
  const { width, height, left, right, top, bottom } = PANEL;
  const [x0, y0] = [column * width + left, (row + 1) * height - bottom];
  const at = (x: number, y: number): string =>
    `${px(x0 + (x / xMost) * (width - left - right))} ${px(y0 - (Math.max(0, y) / yMost) * (height - top - bottom))}`;
  const { slope, intercept } = curve.fit;
  const dots = points.map(({ x, y }) => {
    const [cx, cy] = at(x, y).split(" ");
    return `<circle cx="${cx}" cy="${cy}" r="3" fill="#1f6feb"/>`;
  });
  const text = (x: number, y: number, anchor: string, words: string): string =>
    `<text x="${px(x)}" y="${px(y)}" text-anchor="${anchor}">${words}</text>`;
  const rightEnd = x0 + width - left - right;
  const topEnd = row * height + top;
  return [
    `<path d="M${px(x0)} ${px(topEnd)}V${px(y0)}H${px(rightEnd)}" fill="none" stroke="#888"/>`,
    `<path d="M${at(0, intercept)}L${at(xMost, intercept + slope * xMost)}" stroke="#d29922" stroke-width="1.5"/>`,
    ...dots,
    text(x0, row * height + 16, "start", `over ${curve.name}, µs per rank`),
    text(x0 - 4, topEnd + 8, "end", short(yMost)),
    text(x0 - 4, y0, "end", "0"),
    text(rightEnd, y0 + 14, "end", `${short(xMost)} ${curve.x}`),
  ].join("\n");
}

/** All curves side by side, as SVG. */
export function plotCurves(curves: readonly Curve[]): string {
  const rows = Math.ceil(curves.length / COLUMNS);
  const [width, height] = [COLUMNS * PANEL.width, rows * PANEL.height];
  const panels = curves.map((curve, i) => panel(curve, i % COLUMNS, Math.floor(i / COLUMNS)));
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="11" fill="#555">\n` +
    `<title>Microseconds of a rank's round over ranks, tokens, experts per token and hidden size</title>\n` +
    `<rect width="${width}" height="${height}" fill="#fff"/>\n${panels.join("\n")}\n</svg>\n`
  );
}
