import { describe, expect, it } from "vitest";
import { ThreadControl } from "../src/group/thread-control.js";

// Longer than any test may take: whoever sleeps so long is not woken.
const FOR_EVER = 1e6;

const control = (): ThreadControl => new ThreadControl(ThreadControl.create(2));

describe("a thread that is about to sleep", () => {
  it("stays awake where all that it waits for arrived after it had looked", () => {
    const words = control();
    const [bell, wake] = [words.bellOf(1), words.wakeOf(1)];
    words.ringArrival(1);
    words.ringArrival(1);
    words.sleep(1, bell, wake, 2, FOR_EVER);
    // More than it knew of, as of a rank that is a phase ahead.
    words.sleep(1, bell, wake, 1, FOR_EVER);
  });

  it("stays awake where anything but an arrival rang", () => {
    const words = control();
    const [bell, wake] = [words.bellOf(1), words.wakeOf(1)];
    words.ring(1);
    words.sleep(1, bell, wake, 2, FOR_EVER);
  });

  it("sleeps through arrivals that are not enough, and rings for others", () => {
    const words = control();
    const [bell, wake] = [words.bellOf(1), words.wakeOf(1)];
    words.ringArrival(1);
    words.ring(0);
    words.sleep(1, bell, wake, 2, 1);
    expect(words.bellOf(1)).toBe(bell + 1);
    expect(words.wakeOf(1)).toBe(wake);
  });

  it("counts on when its bell passes 2^31", () => {
    const words = control();
    words.words[words.bellIndex(1)] = 2 ** 31 - 1;
    const [bell, wake] = [words.bellOf(1), words.wakeOf(1)];
    words.ringArrival(1);
    words.ringArrival(1);
    expect(words.bellOf(1)).toBe(-(2 ** 31) + 1);
    words.sleep(1, bell, wake, 2, FOR_EVER);
  });
});
