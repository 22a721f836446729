/** Several measurements of one thing. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly samples: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, least: sorted[0]!, most: sorted.at(-1)!, samples: sorted.length };
}

/** The straight line nearest to the points, and how much of their spread it explains (R², 1 at best). */
export function fitLine(points: readonly (readonly [x: number, y: number])[]): {
  readonly slope: number;
  readonly intercept: number;
  readonly r2: number;
} {
  const n = points.length;
  const mean = (of: (p: readonly [number, number]) => number) =>
    points.reduce((sum, p) => sum + of(p), 0) / n;
  const [mx, my] = [mean(([x]) => x), mean(([, y]) => y)];
  const sxx = mean(([x]) => (x - mx) ** 2);
  const sxy = mean(([x, y]) => (x - mx) * (y - my));
  const syy = mean(([, y]) => (y - my) ** 2);
  const slope = sxy / sxx;
  return { slope, intercept: my - slope * mx, r2: syy === 0 ? 1 : sxy ** 2 / (sxx * syy) };
}

/** Rounds for people: three significant digits. */
export function short(value: number): string {
  return Number(value.toPrecision(3)).toString();
}
