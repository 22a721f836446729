import type { World } from "./world.js";

/** A call of the public surface, with arguments that are right. */
export interface Api {
  readonly name: string;
  /** Undefined where there is no handle to call it on. */
  readonly on?: (world: World, rank: number, pick: number) => object | undefined;
  readonly args: (world: World, rank: number, pick: number) => unknown[];
  /** @param self what `on` gave, which `target` is too unless the case takes another */
  readonly call: (target: never, args: never, world: World, self: never) => unknown;
  /** What has to be under way: a round that has arrived, its combine too, or a dispatcher's round. */
  readonly needs?: "dispatched" | "combined" | "dispatcher";
  /** Changes nothing of an instance, also where it succeeds. */
  readonly pure?: boolean;
  /** May go on for as long as its arguments say; nobody waits for it. */
  readonly unbounded?: boolean;
  /** Values that it is not given, and why it says beside them. */
  readonly never?: readonly string[];
}

/** A method by name, on whatever `on` gives. */
export function method(
  owner: string,
  name: string,
  on: NonNullable<Api["on"]>,
  args: Api["args"],
  more: Partial<Api> = {},
): Api {
  const call = (target: unknown, given: unknown[], _: World, self: object): unknown =>
    Reflect.apply(Reflect.get(self, name) as () => unknown, target, given);
  return { name: `${owner}.${name}`, on, args, call: call as Api["call"], ...more };
}

/** A function of a package. */
export function plain(
  name: string,
  run: (...args: never[]) => unknown,
  args: Api["args"],
  more: Partial<Api> = {},
): Api {
  return { name, args, call: (_, given) => run(...(given as never[])), pure: true, ...more };
}

/** Something that is read rather than called. */
export function getter(owner: string, name: string, on: NonNullable<Api["on"]>): Api {
  return {
    name: `${owner}.${name}`,
    on,
    args: () => [],
    call: (target: object) => Reflect.get(target, name),
    pure: true,
  };
}
