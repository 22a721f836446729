const WIDTH = 22;

/** Of the two tables, in the columns of the lines below. */
export const headings = {
  configurations: `${"configuration".padEnd(WIDTH)}${"states".padStart(10)}${"depth".padStart(7)}${"time".padStart(8)}  result`,
  mutants: `${"mutant".padEnd(WIDTH)}${"caught by".padEnd(WIDTH)}how`,
};

export function configurationLine(name, { result, states, depth, seconds, why }) {
  const columns = [
    name.padEnd(WIDTH),
    (Number.isNaN(states) ? "?" : states.toLocaleString("en-US")).padStart(10),
    (Number.isNaN(depth) ? "?" : String(depth)).padStart(7),
    `${seconds.toFixed(1)} s`.padStart(8),
  ];
  return `${columns.join("")}  ${result}${why === undefined ? "" : `: ${why}`}`;
}

/** Without a world: nothing caught it. */
export function mutantLine({ name, what }, world, found) {
  if (world === undefined) return `${name.padEnd(WIDTH)}${"NOT CAUGHT".padEnd(WIDTH)}${what}`;
  const how = found.result === "violated" ? found.why : `${found.result}: ${found.why}`;
  return `${name.padEnd(WIDTH)}${world.padEnd(WIDTH)}${how}`;
}
