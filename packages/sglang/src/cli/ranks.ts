import { constants } from "node:os";
import { RankProcess } from "./rank-process.js";
import type { RunOptions } from "./run-options.js";
import { Watchdog } from "./watchdog.js";

/** One Ctrl-C may come twice within this time: from the terminal, and from npx, which passes it on. */
const SAME_INTERRUPT_MS = 250;

/** The ranks of this machine: they start together, and where one fails all end. */
export class Ranks {
  readonly #options: RunOptions;
  readonly #watchdog: Watchdog;
  readonly #running = new Map<string, RankProcess>();
  /** When SIGINT came last. */
  #interrupted: number | undefined;
  /** Whether SIGTERM was passed on. */
  #terminated = false;
  /** Of the first failure. */
  #exitCode: number | undefined;
  #grace: NodeJS.Timeout | undefined;
  /** The last signal that asked for an end. */
  #signalled: NodeJS.Signals | undefined;
  #leaving: NodeJS.Timeout | undefined;
  #leaveOutput: (() => void) | undefined;
  /** Settles where this process was told to end, all ranks have, and nobody reads what they wrote. */
  readonly #outputLeft: Promise<void>;
  /** Whether some of it was left behind. */
  leftOutput = false;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#watchdog = new Watchdog(options.graceMs);
    this.#outputLeft = new Promise((resolve) => {
      this.#leaveOutput = resolve;
    });
  }

  /**
   * Starts one rank per environment; resolves with the exit code of them all, once all have ended and what they wrote was
   * passed on; after SIGINT or SIGTERM nobody waits for its readers for longer than the grace period.
   */
  async run(environments: readonly NodeJS.ProcessEnv[]): Promise<number> {
    // Each rank's output has listeners there.
    for (const stream of [process.stdout, process.stderr]) stream.setMaxListeners(0);
    for (const env of environments) this.#running.set(env.RANK!, new RankProcess(this.#options, env));
    this.#watch();
    const followed = Promise.all([...this.#running].map(([name, rank]) => this.#follow(name, rank)));
    await Promise.race([followed, this.#outputLeft]);
    clearTimeout(this.#grace);
    clearTimeout(this.#leaving);
    this.#watchdog.close();
    return this.#exitCode ?? 0;
  }

  /** Passes a signal on to all ranks; the second SIGINT kills them. */
  signal(signal: NodeJS.Signals): void {
    // SIGHUP may ask for something else than an end.
    if (signal !== "SIGHUP") this.#signalled = signal;
    this.#limitDraining();
    if (signal === "SIGINT") {
      const last = this.#interrupted;
      this.#interrupted = performance.now();
      if (last !== undefined) {
        if (this.#interrupted - last > SAME_INTERRUPT_MS) this.#kill();
        return;
      }
    }
    if (signal === "SIGTERM") this.#terminated = true;
    this.#send(signal);
  }

  #kill(): void {
    process.stderr.write("moe-a2a: interrupted again; the ranks are killed\n");
    this.#exitCode ??= 128 + constants.signals.SIGINT;
    this.#send("SIGKILL");
  }

  async #follow(name: string, rank: RankProcess): Promise<void> {
    const { exitCode, fate } = await rank.ended;
    this.#running.delete(name);
    this.#watch();
    this.#limitDraining();
    if (exitCode === 0 || this.#exitCode !== undefined) return rank.drained;
    this.#exitCode = exitCode;
    const others = this.#running.size > 0 ? "; the others are ended" : "";
    this.#endAll();
    // Below what the rank itself had to say.
    await rank.drained;
    process.stderr.write(`moe-a2a: rank ${name} ${fate}${others}\n`);
  }

  #endAll(): void {
    const { graceMs } = this.#options;
    // Ranks that clean up after a signal are not disturbed by another; those that live on after an interrupt are told.
    const isCleaningUp = this.#interrupted !== undefined && performance.now() - this.#interrupted < graceMs;
    if (!this.#terminated && !isCleaningUp) this.#send("SIGTERM");
    this.#grace = setTimeout(() => {
      const names = [...this.#running.keys()].join(", ");
      if (names) process.stderr.write(`moe-a2a: after ${graceMs} ms still there, and killed: ${names}\n`);
      this.#send("SIGKILL");
    }, graceMs);
  }

  /** After SIGINT or SIGTERM, and the last rank: what is not read by and by is left behind. */
  #limitDraining(): void {
    const signal = this.#signalled;
    if (signal === undefined || this.#running.size > 0) return;
    this.#leaving ??= setTimeout(() => {
      this.#exitCode ??= 128 + constants.signals[signal];
      this.leftOutput = true;
      process.stderr.write("moe-a2a: nobody reads what the ranks wrote; the rest is left behind\n");
      this.#leaveOutput?.();
    }, this.#options.graceMs);
  }

  #send(signal: NodeJS.Signals): void {
    for (const rank of this.#running.values()) rank.signal(signal);
  }

  #watch(): void {
    this.#watchdog.watch([...this.#running.values()].flatMap(({ group }) => group ?? []));
  }
}
