import { act } from "./actions.js";
import type { Mutation } from "./case.js";
import { Thrown, VALUES } from "./values.js";
import type { World } from "./world.js";

type Holder = Record<PropertyKey, unknown>;

/** Whether a case may take the value apart: literals of the argument list, but no instances and no typed arrays. */
function isOpen(value: unknown): value is Holder {
  if (typeof value !== "object" || value === null || hostile.has(value)) return false;
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
}

/** What cases have put in: looking at it may throw, and what it does belongs to the call. */
const hostile = new WeakSet<object>();

function make(name: string): unknown {
  const value = VALUES[name]!();
  if (typeof value === "object" && value !== null) hostile.add(value);
  return value;
}

/** A copy that can be spoiled without touching what the literals came from. */
function copy(value: unknown, depth = 5): unknown {
  if (!isOpen(value) || depth === 0) return value;
  const target: Holder = Array.isArray(value) ? ([] as unknown as Holder) : {};
  for (const key of Object.keys(value)) target[key] = copy(value[key], depth - 1);
  return target;
}

interface Place {
  readonly holder: Holder;
  readonly key: string;
}

function places(holder: Holder, depth = 5): Place[] {
  if (depth === 0) return [];
  const own = Object.entries(Object.getOwnPropertyDescriptors(holder))
    .filter(([key, { writable }]) => writable && !(Array.isArray(holder) && key === "length"))
    .map(([key]) => ({ holder, key }));
  return own.flatMap((place) => {
    const value = holder[place.key];
    return isOpen(value) ? [place, ...places(value, depth - 1)] : [place];
  });
}

function define(place: Place, get: () => unknown): void {
  // A getter on an array hides its element as well.
  Object.defineProperty(place.holder, place.key, { get, enumerable: true, configurable: true });
}

function proxyOf(value: object, how: "plain" | "throws" | "revoked", after: number): object {
  let traps = 0;
  const handler: ProxyHandler<object> = {};
  const { proxy, revoke } = Proxy.revocable(value, handler);
  for (const trap of ["get", "has", "ownKeys", "getOwnPropertyDescriptor", "getPrototypeOf"] as const) {
    handler[trap] = (...args: unknown[]): never => {
      if (traps++ >= after) {
        if (how === "throws") throw new Thrown("a trap");
        if (how === "revoked") revoke();
      }
      return (Reflect[trap] as (...all: unknown[]) => unknown)(...args) as never;
    };
  }
  hostile.add(proxy);
  return proxy;
}

/** Spoils one place of the arguments. */
function spoil(args: Holder, mutation: Exclude<Mutation, { op: "this" }>, world: World, rank: number): void {
  const all = places(args);
  if (all.length === 0) return;
  const place = all[mutation.at % all.length]!;
  const { holder, key } = place;
  const right = holder[key];
  let reads = 0;
  switch (mutation.op) {
    case "replace":
      holder[key] = make(mutation.value);
      break;
    case "getterThrows":
      define(place, () => {
        if (reads++ >= mutation.after) throw new Thrown("a getter");
        return right;
      });
      break;
    case "getterChanges":
      define(place, () => (reads++ < mutation.after ? right : make(mutation.value)));
      break;
    case "getterActs":
      define(place, () => {
        act(world, rank, mutation.action);
        return right;
      });
      break;
    case "proxy":
      if (isOpen(right)) holder[key] = proxyOf(right, mutation.how, mutation.after);
      break;
    case "nullPrototype":
      if (isOpen(right) && !Array.isArray(right))
        holder[key] = Object.create(null, Object.getOwnPropertyDescriptors(right)) as Holder;
      break;
    case "delete":
      delete holder[key];
      break;
  }
}

function arraysIn(value: unknown, depth = 5): ArrayBufferView[] {
  if (ArrayBuffer.isView(value)) return [value];
  return isOpen(value) && depth > 0
    ? Object.keys(value).flatMap((key) => arraysIn(value[key], depth - 1))
    : [];
}

/** The arguments as a case has them. */
export function mutate(
  given: readonly unknown[],
  mutations: readonly Mutation[],
  world: World,
  rank: number,
): { readonly args: unknown[]; readonly on: { readonly value: unknown } | undefined } {
  const args = copy([...given]) as unknown[];
  world.arrays = arraysIn(args);
  let on: { readonly value: unknown } | undefined;
  for (const mutation of mutations) {
    if (mutation.op === "this") on = { value: make(mutation.value) };
    else spoil(args as unknown as Holder, mutation, world, rank);
  }
  // The list itself is ours; only what stands in it is the caller's.
  return { args: Array.from({ length: args.length }, (_, i) => readArgument(args, i)), on };
}

/** A getter at the top level would run before the call, in the caller: what it throws or gives is the argument. */
function readArgument(args: unknown[], i: number): unknown {
  try {
    return args[i];
  } catch {
    return undefined;
  }
}
