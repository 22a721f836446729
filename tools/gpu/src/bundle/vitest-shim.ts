import { after, afterEach, before, beforeEach, describe as suite, test } from "node:test";
import { format } from "node:util";
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  chai,
  customMatchers,
  GLOBAL_EXPECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from "@vitest/expect";

// Stands for vitest where tests run on a GPU host: its own `expect` over Node's own runner, so that neither vite nor a
// bundler has to travel.

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

type Body = () => unknown;
type Options = { readonly timeout?: number; readonly skip?: boolean };

const shared = globalThis as unknown as Record<symbol, object>;
export const expect = Object.assign(
  (value: unknown, message?: string) => chai.expect(value, message),
  chai.expect,
  shared[ASYMMETRIC_MATCHERS_OBJECT],
);
shared[GLOBAL_EXPECT] = expect;
setState({ assertionCalls: 0, isExpectingAssertions: false }, expect as never);
(chai.expect as unknown as { extend(expect: unknown, matchers: object): void }).extend(
  expect,
  customMatchers,
);

/** `(name, body, timeout)`, `(name, options, body)`: both are in use. */
function options(given: Options | Body | undefined, last: Body | number | undefined): [Options, Body] {
  if (typeof given === "function") return [typeof last === "number" ? { timeout: last } : {}, given];
  return [given ?? {}, last as Body];
}

type Define = (name: string, options: Options, body: Body) => unknown;

function defines(define: Define, skip: boolean) {
  const one = (name: string, given?: Options | Body, last?: Body | number) => {
    const [o, body] = options(given, last);
    define(name, { ...o, skip: skip || (o.skip ?? false) }, body);
  };
  const each =
    (rows: readonly unknown[]) =>
    (
      name: string,
      given: Options | ((...values: never[]) => unknown),
      last?: ((...v: never[]) => unknown) | number,
    ) => {
      for (const row of rows) {
        const values = (Array.isArray(row) ? row : [row]) as never[];
        const [o, body] = options(given as Options | Body, last as Body | number | undefined);
        const named = name.replace(/\$(\w+)/g, (_, key) => String((row as Record<string, unknown>)[key]));
        const run = body as (...v: never[]) => unknown;
        one(format(named, ...values.slice(0, (named.match(/%[sdifjoO]/g) ?? []).length)), o, () =>
          run(...values),
        );
      }
    };
  return Object.assign(one, { each });
}

function definer(define: Define) {
  return Object.assign(defines(define, false), {
    skip: defines(define, true),
    skipIf: (condition: unknown) => defines(define, Boolean(condition)),
    runIf: (condition: unknown) => defines(define, !condition),
  });
}

export const it = definer((name, o, body) => test(name, o, () => body() as Promise<void>));
export { it as test };
export const describe = definer((name, o, body) => suite(name, o, () => void body()));
export { after as afterAll, afterEach, before as beforeAll, beforeEach };
