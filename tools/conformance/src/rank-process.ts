import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { RankResult } from "./rank.js";
import { endedResult, type Job, type RankHost } from "./rank-host.js";

/** What a rank's process tells: what it is about to do, which rank is to go on, or how its own ended. */
export type Told = { readonly note: string } | { readonly resume: number } | { readonly result: RankResult };

/** The most that is kept of what a process prints, in characters. */
const PRINTED = 2_000;

/** A process that runs ranks. */
export class RankProcess implements RankHost {
  readonly #child: ChildProcess;
  #settle: ((result: RankResult) => void) | undefined;
  #resume: (rank: number) => void = () => {};
  #rank = 0;
  #note = "";
  #printed = "";
  ended = false;

  constructor() {
    this.#child = fork(fileURLToPath(new URL("./process.js", import.meta.url)), {
      // Values that JSON has no word for travel too.
      serialization: "advanced",
      stdio: ["ignore", "inherit", "pipe", "ipc"],
    });
    this.#ref(false);
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#printed = (this.#printed + chunk.toString()).slice(-PRINTED);
    });
    this.#child.on("message", (told: Told) => {
      if ("note" in told) this.#note = told.note;
      else if ("resume" in told) this.#resume(told.resume);
      else this.#done(told.result);
    });
    this.#child.on("close", (code, signal) => {
      this.ended = true;
      const printed = this.#printed.trim();
      const why = ` (${signal ?? `exit code ${code}`})${printed ? `: ${printed}` : ""}`;
      this.#done(endedResult(this.#rank, "process", why));
    });
  }

  start(job: Job, resume: (rank: number) => void): Promise<RankResult> {
    this.#resume = resume;
    this.#rank = job.rank;
    this.#note = "";
    this.#ref(true);
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#child.send(job);
    });
  }

  where(): string {
    return this.#note;
  }

  resume(): void {
    this.#child.kill("SIGCONT");
  }

  async terminate(): Promise<void> {
    if (this.ended) return;
    this.#ref(true);
    this.#child.kill("SIGKILL");
    await once(this.#child, "close");
  }

  #done(result: RankResult): void {
    this.#ref(false);
    this.#settle?.(result);
    this.#settle = undefined;
  }

  /** An idle pool keeps nothing alive; a job does. */
  #ref(busy: boolean): void {
    const { stderr, channel } = this.#child;
    for (const handle of [this.#child, channel, stderr as unknown as NodeJS.RefCounted | null]) {
      if (busy) handle?.ref();
      else handle?.unref();
    }
  }
}
