/** Runs `work` on each item, at most `jobs` at a time, in order of the items as far as that goes. */
export async function each(items, jobs, work) {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}
