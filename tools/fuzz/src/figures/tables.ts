import type { FaultFigures, Figures, Soak } from "./collect.js";

const KINDS = ["local", "threads", "processes"];
const MIB = 2 ** 20;

const count = (value: unknown): string => Number(value).toLocaleString("en-US");
const mib = (bytes: number): string => (bytes / MIB).toFixed(1);

function markdown(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function failures(failed: number): string {
  return failed === 0 ? "none failed" : `${count(failed)} failed`;
}

function soakRow(what: string, soak: Soak, replays = 0): string[] {
  const { ranks, rounds, verified, cycles, memory } = soak;
  const [first, last] = [memory[0]!, memory.at(-1)!];
  const replayed = replays > 0 ? `; ${count(replays)} replays of a graph` : "";
  return [
    what,
    `${count(rounds)} rounds of ${ranks} ranks, ${count(verified)} compared byte for byte${replayed}; ${count(cycles)} instances made and closed`,
    `${failures(soak.failed)}; resident ${mib(first.rss)} → ${mib(last.rss)} MiB, heap ${mib(first.heap)} → ${mib(last.heap)} MiB, ` +
      `descriptors ${first.descriptors} → ${last.descriptors}, handles ${first.handles} → ${last.handles}`,
    count(soak.seconds),
  ];
}

/** What was run, how much of it, and what it came to. */
export function runsTable({ faults, soak, gpuSoak, surface, frames, strangers, native }: Figures): string {
  const rows: string[][] = [];
  const add = (what: string, run: Figures["surface"], much: string, found: string): void => {
    if (run)
      rows.push([
        what,
        much,
        `${failures(Number(run.failed))}${found}`,
        count(Math.round(Number(run.seconds))),
      ]);
  };
  for (const kind of KINDS) {
    const group = faults?.[kind];
    if (!group) continue;
    const sum = (key: "scenarios" | "failed" | "told"): number =>
      group.faults.reduce((all, found) => all + found[key], 0);
    const much = `${count(sum("scenarios"))} scenarios of ${group.faults.length} faults`;
    const came = `${failures(sum("failed"))}; others had to be told in ${count(sum("told"))}`;
    rows.push([`faults, ${kind}`, much, came, count(Math.round(group.seconds))]);
  }
  for (const kind of KINDS) if (soak?.[kind]) rows.push(soakRow(`soak, ${kind}`, soak[kind]));
  if (gpuSoak) rows.push(soakRow(`soak, ${gpuSoak.group} on ${gpuSoak.gpus}`, gpuSoak, gpuSoak.replays));
  add(
    "fuzz, surface",
    surface,
    `${count(surface?.cases)} cases, ${count(surface?.calls)} calls of ${count(surface?.functions)} functions`,
    `; ${count(surface?.rounds)} exact rounds between them`,
  );
  add(
    "fuzz, frames",
    frames,
    `${count(frames?.frames)} frames in ${count(frames?.attacks)} attacks, ${count(frames?.groups)} of them on groups`,
    `; at most ${mib(Number(frames?.mostBytes))} MiB`,
  );
  add(
    "fuzz, strangers",
    strangers,
    `${count(strangers?.joins)} groups made among ${count(strangers?.atJoins)} strangers; ${count(strangers?.floods)} floods of ` +
      `${count(strangers?.connections)}`,
    `; ${count(strangers?.rounds)} exact rounds in the floods`,
  );
  add(
    "fuzz, native",
    native,
    `${count(native?.messages)} messages, ${count(native?.exchanges)} exchanges, ${count(native?.calls)} calls of the addon, ` +
      `${count(native?.threads)} threads torn down`,
    "; nothing found by AddressSanitizer and UBSan",
  );
  return markdown(["what", "how much", "came to", "seconds"], rows);
}

function faultCell(found: FaultFigures | undefined): string {
  if (!found) return "";
  if (found.medianMs === undefined) return `${found.scenarios}: nobody is told`;
  const some = found.told < found.scenarios ? `, ${found.told} told` : "";
  return `${found.scenarios}${some}: ${found.medianMs.toFixed(1)} / ${found.mostMs!.toFixed(1)}`;
}

/** How soon the others knew, by fault and kind of group. */
export function faultsTable({ faults = {} }: Pick<Figures, "faults">): string {
  const kinds = KINDS.filter((kind) => faults[kind]);
  // Not every fault can befall a rank of every kind of group.
  const most = [...kinds].sort((a, b) => faults[b]!.faults.length - faults[a]!.faults.length);
  const names = [...new Set(most.flatMap((kind) => faults[kind]!.faults.map(({ fault }) => fault)))];
  const rows = names.map((name) => {
    const found = kinds.map((kind) => faults[kind]!.faults.find(({ fault }) => fault === name));
    // Of groups that were given other limits, in their order.
    const limits = new Set(found.flatMap((one) => (one ? [count(one.timeLimitMs)] : [])));
    return [name, [...limits].join("; "), ...found.map(faultCell)];
  });
  return markdown(["fault of one rank", "time limit, ms", ...kinds], rows);
}

/** The same on GPUs. */
export function gpuFaultsTable({ gpuFaults }: Figures): string {
  if (!gpuFaults) return "Not measured yet.";
  const { gpus, groups } = gpuFaults;
  const [first] = Object.values(groups);
  return `On ${gpus}, commit ${first?.commit}:\n\n${faultsTable({ faults: groups })}`;
}

const TABLES = { runs: runsTable, faults: faultsTable, gpuFaults: gpuFaultsTable } as const;

/** A page with the tables of these figures in their places: between comments `figures: NAME` and `end`. */
export function withTables(page: string, figures: Figures): string {
  return Object.entries(TABLES).reduce((text, [name, table]) => {
    const place = new RegExp(`(<!-- figures: ${name} -->\n)[^]*?(<!-- end -->)`);
    if (!place.test(text)) throw new Error(`the page has no place for the table "${name}"`);
    return text.replace(place, (_, start, end) => `${start}\n${table(figures)}\n\n${end}`);
  }, page);
}
