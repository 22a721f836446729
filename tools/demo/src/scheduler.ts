/** What a scheduler needs to know of a request. */
export interface Job {
  readonly arrivalStep: number;
  readonly prompt: { readonly length: number };
  readonly answerTokens: number;
}

/** The tokens of one request that a step runs. */
export interface Segment<J extends Job> {
  readonly job: J;
  /** Position of the first of them in the request's prompt and answer. */
  readonly start: number;
  readonly count: number;
  /** Whether the last of them gives the request's next token. */
  readonly samples: boolean;
}

/** Tokens of a request that pass through the model: all but the answer's last. */
export function tokensToRun(job: Job): number {
  return job.prompt.length + job.answerTokens - 1;
}

/**
 * Decides which tokens one rank runs in a step: first one for each request that is answering, then prompt tokens in
 * order of arrival, a long prompt in chunks, within a budget of tokens per step.
 */
export class Scheduler<J extends Job> {
  readonly #waiting: J[];
  readonly #running: { readonly job: J; done: number }[] = [];
  readonly #budget: number;

  constructor(jobs: readonly J[], budget: number) {
    this.#waiting = [...jobs].sort((a, b) => a.arrivalStep - b.arrivalStep);
    this.#budget = budget;
  }

  /** Whether there is nothing left to run, now or later. */
  get idle(): boolean {
    return this.#running.length === 0 && this.#waiting.length === 0;
  }

  /** The segments of `step`, which counts up from 0 over the calls. They are taken as run. */
  next(step: number): Segment<J>[] {
    const segments: Segment<J>[] = [];
    let budget = this.#budget;
    const run = (entry: { readonly job: J; done: number }, most: number): void => {
      const { job, done: start } = entry;
      const count = Math.min(most, budget);
      entry.done += count;
      budget -= count;
      segments.push({ job, start, count, samples: entry.done >= job.prompt.length });
    };

    // Every request in here got a token's room when it was admitted, so the answering ones always fit.
    for (const entry of this.#running) if (entry.done >= entry.job.prompt.length) run(entry, 1);
    for (const entry of this.#running) {
      const missing = entry.job.prompt.length - entry.done;
      if (missing > 0 && budget > 0) run(entry, missing);
    }
    while (budget > 0 && this.#waiting.length > 0 && this.#waiting[0]!.arrivalStep <= step) {
      const entry = { job: this.#waiting.shift()!, done: 0 };
      this.#running.push(entry);
      run(entry, entry.job.prompt.length);
    }
    for (let i = this.#running.length - 1; i >= 0; i--) {
      const { job, done } = this.#running[i]!;
      if (done >= tokensToRun(job)) this.#running.splice(i, 1);
    }
    return segments;
  }
}

/** Steps that serving `jobs` takes, where they are spread over ranks and every rank has the same budget. */
export function countSteps(jobsByRank: readonly (readonly Job[])[], budget: number): number {
  const schedulers = jobsByRank.map((jobs) => new Scheduler(jobs, budget));
  let steps = 0;
  for (let clock = 0; schedulers.some((s) => !s.idle); clock++) {
    const tokens = schedulers.map((s) => s.next(clock).length);
    if (tokens.some((n) => n > 0)) steps++;
  }
  return steps;
}
