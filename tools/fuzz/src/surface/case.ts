import fc from "fast-check";
import { ACTIONS } from "./actions.js";
import { VALUES } from "./values.js";

/** One way to spoil the arguments of a call, as data, so that it can be printed and shrunk. */
export type Mutation =
  /** Another value, at a place of the arguments. */
  | { readonly op: "replace"; readonly at: number; readonly value: string }
  /** A getter that throws from its n-th reading on. */
  | { readonly op: "getterThrows"; readonly at: number; readonly after: number }
  /** A getter that gives another value from its n-th reading on. */
  | { readonly op: "getterChanges"; readonly at: number; readonly after: number; readonly value: string }
  /** A getter that does something to the instance before it gives the right value. */
  | { readonly op: "getterActs"; readonly at: number; readonly action: string }
  /** A proxy that passes everything on, throws at its n-th trap, or is revoked there. */
  | {
      readonly op: "proxy";
      readonly at: number;
      readonly how: "plain" | "throws" | "revoked";
      readonly after: number;
    }
  | { readonly op: "nullPrototype"; readonly at: number }
  | { readonly op: "delete"; readonly at: number }
  /** The call on something else than its object. */
  | { readonly op: "this"; readonly value: string };

/** A call of the API that `api` counts to, on a rank. */
export interface Step {
  readonly api: number;
  readonly rank: number;
  /** Which of the handles that there are. */
  readonly pick: number;
  readonly mutations: readonly Mutation[];
}

export interface Case {
  readonly world: number;
  readonly steps: readonly Step[];
}

const at = fc.nat({ max: 40 });
const after = fc.nat({ max: 3 });
const value = fc.constantFrom(...Object.keys(VALUES));

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant("replace" as const), at, value }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("getterThrows" as const), at, after }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("getterChanges" as const), at, after, value }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("getterActs" as const),
      at,
      action: fc.constantFrom(...Object.keys(ACTIONS)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("proxy" as const),
      at,
      how: fc.constantFrom("plain" as const, "throws" as const, "revoked" as const),
      after: fc.nat({ max: 12 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("nullPrototype" as const), at }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("delete" as const), at }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("this" as const), value }) },
);

const step: fc.Arbitrary<Step> = fc.record({
  api: fc.nat({ max: 9_999 }),
  rank: fc.nat({ max: 2 }),
  pick: fc.nat({ max: 7 }),
  mutations: fc.oneof(
    { weight: 6, arbitrary: fc.array(mutation, { minLength: 1, maxLength: 3 }) },
    { weight: 1, arbitrary: fc.constant([]) },
  ),
});

/** Mostly one hostile call, else several in any order. */
export const cases: fc.Arbitrary<Case> = fc.record({
  world: fc.nat({ max: 99 }),
  steps: fc.oneof(
    { weight: 3, arbitrary: fc.array(step, { minLength: 1, maxLength: 1 }) },
    { weight: 2, arbitrary: fc.array(step, { minLength: 2, maxLength: 8 }) },
  ),
});
