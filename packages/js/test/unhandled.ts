import { afterEach, expect } from "vitest";

/** Fails the test during which a promise was rejected that nobody handled. */
export function expectNoUnhandledRejections(): void {
  const unhandled: unknown[] = [];
  process.on("unhandledRejection", (reason) => void unhandled.push(reason));
  afterEach(() => expect(unhandled.splice(0)).toEqual([]));
}
