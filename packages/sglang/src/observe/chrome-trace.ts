import { appendFileSync, linkSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { threadId } from "node:worker_threads";
import { isMoeA2AError } from "@moe-a2a/core";
import type { PhaseMessage } from "./channels.js";
import { now, subscribeToPhases } from "./subscribe.js";

/** Names the file that every rank of a program writes its trace to; `moe-a2a run --trace FILE` sets it. */
export const TRACE_VARIABLE = "MOE_A2A_TRACE";

/** Bytes and milliseconds after which what was recorded is written. */
const FLUSH_BYTES = 1 << 16;
const FLUSH_MS = 1000;

/** Where a trace is written to. */
export interface TraceOptions {
  /** The file. Ranks on other threads and in other processes of this machine may write to the same. */
  readonly file: string;
}

/** A trace that is being written. */
export interface Trace {
  /** Writes what is left and ends. Idempotent. */
  stop(): void;
}

/**
 * Records every dispatch and combine of this thread in the JSON array form of Chrome's trace format, which Perfetto
 * (ui.perfetto.dev) and `chrome://tracing` show with a row for each rank; a second lane has a row of its own. What is there
 * already stays: a file is added to.
 *
 * @throws where the file cannot be written
 */
export function startTrace({ file }: TraceOptions): Trace {
  const path = resolve(file);
  begin(path);
  const writer = new Writer(path);
  const starts = new WeakMap<PhaseMessage, number>();
  const rows = new Set<number>();
  const unsubscribe = subscribeToPhases({
    started: (message) => {
      message.timed = true;
      starts.set(message, now());
    },
    ended: (message) => {
      const start = starts.get(message);
      // It began before the trace did.
      if (start === undefined) return;
      const row = message.rank * 2 + (message.lane ?? 0);
      if (!rows.has(row)) {
        rows.add(row);
        for (const event of rowEvents(row)) writer.add(event);
      }
      writer.add(phaseEvent(message, row, start));
    },
  });
  return {
    stop: () => {
      unsubscribe();
      writer.close();
    },
  };
}

/** Makes the file with its first line, unless another rank has: all at once, so that nobody writes above that line. */
function begin(path: string): void {
  const draft = `${path}.${process.pid}.${threadId}.tmp`;
  writeFileSync(draft, "[\n");
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft);
  }
}

/** Names a row, and puts it into its place. */
function rowEvents(tid: number): object[] {
  const [rank, lane] = [Math.floor(tid / 2), tid % 2];
  const place = { ph: "M", pid: 0, tid };
  return [
    { ...place, name: "process_name", args: { name: "moe-a2a" } },
    { ...place, name: "thread_name", args: { name: `rank ${rank}${lane === 1 ? ", lane 1" : ""}` } },
    { ...place, name: "thread_sort_index", args: { sort_index: tid } },
  ];
}

function phaseEvent(message: PhaseMessage, tid: number, start: number): object {
  const { phase, round, tokens, slots, bytes, report, deviceTime, error } = message;
  const dispatched = phase === "dispatch" ? report : undefined;
  const heard = now();
  const ran = deviceTime ?? { start, end: heard };
  const ts = Math.round(ran.start * 1000);
  return {
    name: error === undefined ? phase : `${phase} failed`,
    cat: "moe-a2a",
    ph: "X",
    pid: 0,
    tid,
    ts,
    // From rounded times, so that phases which follow one another do not overlap.
    dur: Math.max(0, Math.round(ran.end * 1000) - ts),
    args: {
      round,
      tokens,
      slots,
      bytes,
      tokensSent: dispatched?.tokensSent,
      tokensReceived: dispatched?.tokensReceived,
      waitMs: dispatched?.waitMs,
      queuedMs: deviceTime && deviceTime.start - start,
      heardMs: deviceTime && heard - deviceTime.end,
      error: isMoeA2AError(error) ? error.code : error === undefined ? undefined : String(error),
    },
  };
}

/** Adds lines to a file, each at once, as others add to it too. */
class Writer {
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  readonly #onExit = (): void => this.close();
  #text = "";

  constructor(path: string) {
    this.#path = path;
    this.#timer = setInterval(() => this.#flush(), FLUSH_MS).unref();
    process.on("exit", this.#onExit);
  }

  add(event: object): void {
    this.#text += `${JSON.stringify(event)},\n`;
    if (this.#text.length >= FLUSH_BYTES) this.#flush();
  }

  close(): void {
    clearInterval(this.#timer);
    process.off("exit", this.#onExit);
    this.#flush();
  }

  #flush(): void {
    if (this.#text === "") return;
    const text = this.#text;
    this.#text = "";
    try {
      appendFileSync(this.#path, text);
    } catch (error) {
      warn(error as Error);
    }
  }
}

let tracing = false;

/** Starts a trace of this thread where the environment names a file for it. */
export function traceWhereAsked(): void {
  const file = process.env[TRACE_VARIABLE];
  if (tracing || !file) return;
  tracing = true;
  try {
    startTrace({ file });
  } catch (error) {
    warn(error as Error);
  }
}

/** A trace is not worth a round. */
function warn({ message }: Error): void {
  process.emitWarning(`the trace cannot be written: ${message}`, { type: "MoeA2AWarning" });
}
