import { createLocalGroup, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";

/** What the caller's own code throws in a case; it must come back as it is, or not at all. */
export class Thrown extends Error {}

const revoked = (target: object): unknown => {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
};

const throwing = (target: object): unknown => {
  const trap = (): never => {
    throw new Thrown("a trap");
  };
  return new Proxy(target, {
    get: trap,
    has: trap,
    ownKeys: trap,
    getPrototypeOf: trap,
    getOwnPropertyDescriptor: trap,
  });
};

const detached = (array: Float32Array | Int32Array): unknown => {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
};

interface Resizable extends ArrayBuffer {
  resize(bytes: number): void;
}
const resizable = (bytes: number): Resizable =>
  new (ArrayBuffer as unknown as new (bytes: number, options: object) => Resizable)(bytes, {
    maxByteLength: 4096,
  });

/** A view whose buffer has shrunk away below it. */
const outOfBounds = (): unknown => {
  const buffer = resizable(64);
  const view = new Float32Array(buffer, 16, 8);
  buffer.resize(8);
  return view;
};

const signal = (aborted: boolean): AbortSignal => {
  const controller = new AbortController();
  if (aborted) controller.abort(new Thrown("aborted"));
  return controller.signal;
};

/** An instance and a group that are closed already. */
async function closedHandles() {
  const [group] = createLocalGroup(1);
  const config = { epSize: 1, numExperts: 1, topK: 1, maxTokensPerRank: 1 };
  const a2a = await jsBackend.create(
    { ...config, maxDispatchBytesPerToken: 4, maxCombineBytesPerToken: 4 },
    group!,
  );
  await a2a.close();
  await group!.close();
  return { group, a2a };
}
let closed: Awaited<ReturnType<typeof closedHandles>> | undefined;

/** Has the handles that {@link VALUES} gives out made. */
export async function prepareValues(): Promise<void> {
  closed ??= await closedHandles();
}

/** Hostile values by name, each made anew. */
export const VALUES: Readonly<Record<string, () => unknown>> = {
  undefined: () => undefined,
  null: () => null,
  true: () => true,
  false: () => false,
  zero: () => 0,
  minusZero: () => -0,
  minusOne: () => -1,
  one: () => 1,
  two: () => 2,
  three: () => 3,
  half: () => 0.5,
  nan: () => Number.NaN,
  infinity: () => Number.POSITIVE_INFINITY,
  int31: () => 2 ** 31 - 1,
  int32: () => 2 ** 31,
  uint32: () => 2 ** 32,
  maxSafe: () => Number.MAX_SAFE_INTEGER,
  two53: () => 2 ** 53,
  huge: () => 1e308,
  empty: () => "",
  text: () => "text",
  digits: () => "2",
  longText: () => "x".repeat(70_000),
  surrogate: () => "\ud800",
  proto: () => "__proto__",
  float32: () => "float32",
  bfloat16: () => "bfloat16",
  int32Name: () => "int32",
  int64: () => "int64",
  fp8: () => "fp8",
  mxfp8: () => "mxfp8",
  js: () => "js",
  cuda: () => "cuda",
  drop: () => "drop",
  bypassed: () => "bypassed",
  flashinfer: () => "flashinfer",
  bigint: () => 1n,
  bigMinus: () => -1n,
  bigHuge: () => 2n ** 64n,
  symbol: () => Symbol("s"),
  object: () => ({}),
  nullPrototype: () => Object.create(null),
  array: () => [],
  numbers: () => [1, 2],
  sparse: () => {
    const array: unknown[] = [];
    array[3] = 1;
    return array;
  },
  longSparse: () => Object.assign([], { length: 2 ** 32 - 1 }),
  manyNumbers: () => new Array(200_000).fill(1),
  nested: () => [[1], [2]],
  symbols: () => [Symbol("s"), 1n, {}],
  function: () => () => {},
  throwingFunction: () => () => {
    throw new Thrown("a function");
  },
  asyncFunction: () => async () => {
    throw new Thrown("an async function");
  },
  classValue: () => class {},
  promise: () => Promise.resolve(1),
  rejection: () => {
    const rejected = Promise.reject(new Thrown("a rejection"));
    rejected.catch(() => {});
    return rejected;
  },
  thenable: () => ({
    // biome-ignore lint/suspicious/noThenProperty: what else would be hostile
    get then(): never {
      throw new Thrown("then");
    },
  }),
  date: () => new Date(Number.NaN),
  map: () => new Map(),
  error: () => new Thrown("a value"),
  revokedObject: () => revoked({}),
  revokedArray: () => revoked([1, 2]),
  throwingObject: () => throwing({}),
  throwingArray: () => throwing([1, 2]),
  badToString: () => ({
    toString: () => {
      throw new Thrown("toString");
    },
    toJSON: () => {
      throw new Thrown("toJSON");
    },
    get [Symbol.toStringTag](): string {
      throw new Thrown("toStringTag");
    },
  }),
  detachedFloats: () => detached(new Float32Array(8)),
  detachedInts: () => detached(new Int32Array(4)),
  sharedFloats: () => new Float32Array(new SharedArrayBuffer(32)),
  resizableFloats: () => new Float32Array(resizable(32)),
  outOfBounds,
  floats: () => new Float32Array(8),
  ints: () => new Int32Array(2),
  bytes: () => new Uint8Array(4),
  noBytes: () => new Uint8Array(0),
  bigints: () => new BigInt64Array(2),
  dataView: () => new DataView(new ArrayBuffer(8)),
  arrayBuffer: () => new ArrayBuffer(8),
  sharedBuffer: () => new SharedArrayBuffer(8),
  signal: () => signal(false),
  abortedSignal: () => signal(true),
  fakeSignal: () => ({
    aborted: false,
    addEventListener: () => {
      throw new Thrown("addEventListener");
    },
    removeEventListener: () => {},
  }),
  badSignal: () => ({ addEventListener: () => {} }),
  tensor: () => tensor("float32", [1, 2]),
  ids: () => tensor("int32", [2, 2], [0, 1, 2, 3]),
  noRows: () => tensor("float32", [0, 4]),
  longShape: () => ({
    dtype: "float32",
    shape: [2 ** 40, 2 ** 40],
    device: { type: "cpu", id: 0 },
    data: [],
  }),
  cudaTensor: () => ({ dtype: "float32", shape: [2, 4], device: { type: "cuda", id: 0 }, data: 4096n }),
  closedInstance: () => closed!.a2a,
  closedGroup: () => closed!.group,
};
