import type { World } from "./world.js";

const quiet = (value: unknown): void => {
  if (value instanceof Promise) value.catch(() => {});
};

/** What a getter or a hook of the caller does in the middle of a call; its own failures are its own. */
export const ACTIONS: Readonly<Record<string, (world: World, rank: number) => void>> = {
  close: (world, rank) => quiet(world.a2as[rank]!.close()),
  closePeer: (world, rank) => quiet(world.a2as[(rank + 1) % world.a2as.length]!.close()),
  closeGroup: (world, rank) => quiet(world.groups[rank]!.close()),
  abort: (world, rank) => world.a2as[rank]!.abort("from a getter"),
  reset: (world, rank) => quiet(world.a2as[rank]!.reset()),
  dispatch: (world, rank) => void world.dispatches.push(world.dispatch(rank)),
  combine: (world) => void world.dispatches.at(-1)?.combine(world.expertOutput()),
  poll: (world) => quiet(world.dispatches.at(-1)?.ready()),
  detach: (world) => world.detach(),
  resetDispatcher: (world, rank) => world.dispatchers[rank]?.reset(),
  redispatch: (world) => {
    const call = world.dispatcherCall();
    if (call) quiet(call);
  },
};

/** Runs one, and swallows what it throws. */
export function act(world: World, rank: number, action: string): void {
  world.acted = true;
  try {
    ACTIONS[action]!(world, rank);
  } catch {}
}
