import { setMaxListeners } from "node:events";
import { MoeA2AError } from "../../errors.js";
import { missingError } from "../../verdict.js";
import type { Group } from "../group.js";
import type { Door } from "./door.js";
import type { JoinOptions } from "./join-options.js";
import type { Link } from "./link.js";
import { sendFailure } from "./messages.js";
import { ProcessGroup } from "./process-group.js";

/** A timer that is as late as this, in milliseconds, speaks of an event loop that was busy with something else. */
const BUSY_MS = 20;
/** The most that a rank waits beyond its time limit, for those who knocked while its own event loop was busy. */
const MAX_GRACE_MS = 1_000;

/** What a rank holds while its group is being made: given to the group in the end, or let go of at once. */
export abstract class Joining {
  protected readonly options: JoinOptions;
  /** By rank. */
  protected readonly links: (Link | undefined)[];
  protected door: Door | undefined;
  readonly group: Promise<Group>;
  readonly #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout>;
  #resolve: (group: Group) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  constructor(options: JoinOptions) {
    // As many as there are ranks that call at the same time.
    setMaxListeners(0, this.#abort.signal);
    this.options = options;
    this.links = new Array<Link | undefined>(options.size).fill(undefined);
    this.group = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const due = performance.now() + options.timeoutMs;
    this.#timer = setTimeout(() => this.#isDue(performance.now() - due), options.timeoutMs);
  }

  /** @param late by how many milliseconds; whoever came in that time could not be let in */
  #isDue(late: number): void {
    const giveUp = (): void => this.fail(this.missing(this.missingRanks(), "timeout"));
    if (late < BUSY_MS) giveUp();
    else this.#timer = setTimeout(giveUp, Math.min(late, MAX_GRACE_MS));
  }

  /** The ranks that this one still waits for, as far as it knows. */
  protected abstract missingRanks(): number[];

  /** Aborted once the joining is over. */
  protected get signal(): AbortSignal {
    return this.#abort.signal;
  }

  protected get over(): boolean {
    return this.#abort.signal.aborted;
  }

  protected missing(missingRanks: number[], kind: "timeout" | "lost"): MoeA2AError {
    const { rank, timeoutMs } = this.options;
    const where = "joinProcessGroup()";
    return missingError({ phase: "create", round: 0, missingRanks, kind, timeoutMs, rank, where });
  }

  /** Makes the group, in this very turn: what peers send next is for it. */
  protected succeed(): void {
    this.#end();
    this.#resolve(new ProcessGroup(this.options.rank, this.links, () => this.close()));
  }

  /** Lets go of what the joining has kept for the group; when that closes. */
  protected close(): void {
    this.door?.close();
  }

  /** Gives up, and tells all ranks that this one is connected to. */
  protected fail(error: unknown): void {
    if (this.over) return;
    this.#end(error);
    this.close();
    for (const link of this.links) {
      if (link && error instanceof MoeA2AError) sendFailure(link, error);
      else link?.finish();
    }
    this.#reject(error);
  }

  #end(reason?: unknown): void {
    clearTimeout(this.#timer);
    this.#abort.abort(reason);
  }
}
