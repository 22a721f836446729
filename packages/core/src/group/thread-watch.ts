import { threadId, type Worker } from "node:worker_threads";
import type { ThreadControl } from "./thread-control.js";

/**
 * Notices that a thread ended without closing its groups, so that its peers need not wait for a timeout.
 *
 * The thread that made a group hears of the end of workers that it starts afterwards; a thread that ends by itself
 * (not by `terminate()`) says so on its way out.
 */
const watched = new Set<{ readonly control: ThreadControl; readonly announce: (rank: number) => void }>();
let watching = false;

/** Marks as lost the ranks that `thread` had joined, and tells the others. */
function threadEnded(thread: number): void {
  for (const group of watched) {
    const { control, announce } = group;
    let present = false;
    for (let rank = 0; rank < control.size; rank++) {
      if (control.threadOf(rank) === thread && control.move(rank, "joined", "lost")) {
        control.ringAll();
        announce(rank);
      }
      const state = control.state(rank);
      present ||= state === "joined" || state === "absent";
    }
    if (!present) watched.delete(group);
  }
}

/** Watches the workers that this thread starts from now on, and the end of this thread itself. */
export function watchThreads(control: ThreadControl, announce: (rank: number) => void): () => void {
  const entry = { control, announce };
  watched.add(entry);
  if (!watching) {
    watching = true;
    process.on("worker", (worker: Worker) => {
      const thread = worker.threadId;
      worker.once("exit", () => threadEnded(thread));
    });
    process.once("exit", () => threadEnded(threadId));
  }
  return () => watched.delete(entry);
}
