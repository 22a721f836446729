import { describe, expect, it } from "vitest";
import { countSteps, type Job, Scheduler, tokensToRun } from "../src/scheduler.js";

const job = (arrivalStep: number, promptTokens: number, answerTokens: number): Job => ({
  arrivalStep,
  prompt: { length: promptTokens },
  answerTokens,
});

/** Each step's segments as `start+count`, with `!` where a token is chosen. */
function run(jobs: readonly Job[], budget: number): string[] {
  const scheduler = new Scheduler(jobs, budget);
  const steps: string[] = [];
  for (let step = 0; !scheduler.idle; step++) {
    const segments = scheduler.next(step);
    steps.push(segments.map((s) => `${s.start}+${s.count}${s.samples ? "!" : ""}`).join(" "));
  }
  return steps;
}

describe("Scheduler", () => {
  it("runs a prompt in one step, then a token per step", () => {
    expect(run([job(0, 5, 3)], 8)).toEqual(["0+5!", "5+1!", "6+1!"]);
  });

  it("has nothing to run before a request arrives", () => {
    expect(run([job(2, 3, 1)], 8)).toEqual(["", "", "0+3!"]);
  });

  it("cuts a long prompt into chunks, and answers first", () => {
    expect(run([job(0, 2, 4), job(1, 9, 2)], 4)).toEqual([
      "0+2!",
      "2+1! 0+3",
      "3+1! 3+3",
      "4+1! 6+3!",
      "9+1!",
    ]);
  });

  it("admits requests while there is room", () => {
    expect(run([job(0, 3, 1), job(0, 3, 1), job(0, 3, 1)], 4)).toEqual(["0+3! 0+1", "1+2! 0+2", "2+1!"]);
  });

  it("never admits more requests than can answer in one step", () => {
    expect(run([job(0, 1, 3), job(0, 1, 3), job(0, 1, 1)], 2)).toEqual([
      "0+1! 0+1!",
      "1+1! 1+1!",
      "2+1! 2+1!",
      "0+1!",
    ]);
  });

  it("runs every token once, in order, within the budget", () => {
    const jobs = [job(0, 50, 7), job(0, 3, 20), job(4, 33, 1), job(4, 1, 1), job(30, 9, 9)];
    const scheduler = new Scheduler(jobs, 16);
    const next = new Map<Job, number>();
    const answers = new Map<Job, number>();
    for (let step = 0; !scheduler.idle; step++) {
      const segments = scheduler.next(step);
      expect(segments.reduce((sum, s) => sum + s.count, 0)).toBeLessThanOrEqual(16);
      for (const { job, start, count, samples } of segments) {
        expect(step).toBeGreaterThanOrEqual(job.arrivalStep);
        expect(start).toBe(next.get(job) ?? 0);
        expect(count).toBeGreaterThan(0);
        next.set(job, start + count);
        if (samples) answers.set(job, (answers.get(job) ?? 0) + 1);
      }
    }
    for (const job of jobs) {
      expect(next.get(job)).toBe(tokensToRun(job));
      expect(answers.get(job)).toBe(job.answerTokens);
    }
  });
});

describe("countSteps", () => {
  it("counts steps in which some rank has a token", () => {
    expect(countSteps([[job(0, 5, 3)], [job(1, 4, 1)], []], 8)).toBe(3);
    expect(countSteps([[job(0, 5, 1)], [job(9, 5, 2)]], 8)).toBe(3);
    expect(countSteps([[], []], 8)).toBe(0);
  });
});
