import { writeFileSync } from "node:fs";

/** Keeps what a run came to, for the table of docs/faults.md. */
export function writeFigures(file: string | undefined, figures: Readonly<Record<string, unknown>>): void {
  if (file !== undefined) writeFileSync(file, `${JSON.stringify(figures, null, 2)}\n`);
}
