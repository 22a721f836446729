import { threadId, type Worker } from "node:worker_threads";
import type { ThreadControl } from "./thread-control.js";

interface WatchedGroup {
  readonly control: ThreadControl;
  /** Tells the ranks that wait for messages. */
  readonly announce: (rank: number) => void;
}

const watched = new Set<WatchedGroup>();

/** Marks as lost the ranks that `thread` had joined, so that their peers need not wait for a time limit. */
function threadEnded(thread: number): void {
  for (const group of watched) {
    const { control, announce } = group;
    let remaining = false;
    for (let rank = 0; rank < control.size; rank++) {
      if (control.threadOf(rank) === thread && control.move(rank, "joined", "lost")) {
        control.ringAll();
        announce(rank);
      }
      const state = control.state(rank);
      remaining ||= state === "joined" || state === "absent";
    }
    if (!remaining) watched.delete(group);
  }
}

// From the start, not from the first group on: workers are often started before the groups that they join.
process.on("worker", (worker: Worker) => {
  const thread = worker.threadId;
  worker.once("exit", () => threadEnded(thread));
});
// A thread that ends by itself (not by `terminate()`) says so on its way out, whoever started it.
process.once("exit", () => threadEnded(threadId));

/** Watches a group for ranks whose threads end without closing it: those that this thread starts, and this one. */
export function watchThreads(control: ThreadControl, announce: (rank: number) => void): () => void {
  const group = { control, announce };
  watched.add(group);
  return () => watched.delete(group);
}
