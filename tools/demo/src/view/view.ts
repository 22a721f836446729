import type { Request } from "../text/requests.js";
import { LiveView } from "./live-view.js";
import { PlainView } from "./plain-view.js";

/** Shows a run while it goes. */
export interface View {
  /** Lines that stay. */
  header(lines: readonly string[]): void;
  step(step: number, tokensByRank: readonly number[]): void;
  answer(request: Request, text: string): void;
  /** Ends the view; further lines may be printed after it. */
  close(): void;
}

/** A live view on a terminal, plain lines elsewhere. */
export function openView(out: NodeJS.WriteStream, ranks: number, steps: number): View {
  const { TERM } = process.env;
  return out.isTTY && TERM !== "dumb" ? new LiveView(out, ranks, steps) : new PlainView(out, ranks, steps);
}
