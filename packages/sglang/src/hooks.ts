import { describe } from "@moe-a2a/core";
import { argumentError } from "./check.js";

/** What a hook returns that only looks: nothing. */
// biome-ignore lint/suspicious/noConfusingVoidType: undefined would ask such a hook for a return statement
export type Unchanged = void;

/** Undoes one registration. */
export interface HookHandle {
  /** Idempotent; a hook removed during a run is skipped where it has not run yet. */
  remove(): void;
}

/** What hooks of one kind may return, undefined aside. */
export interface HookResult {
  readonly text: string;
  accepts(returned: unknown): boolean;
}

/** Hooks of one kind, in registration order. */
export class HookList<Hook> {
  readonly #name: string;
  readonly #result: HookResult;
  readonly #hooks = new Map<HookHandle, Hook>();

  /** @param name of the register method, for messages */
  constructor(name: string, result: HookResult) {
    this.#name = name;
    this.#result = result;
  }

  register(hook: Hook): HookHandle {
    if (typeof hook !== "function") {
      throw argumentError("hook", `${this.#name}(): hook is ${describe(hook)}, not a function`);
    }
    const handle: HookHandle = {
      remove: () => {
        this.#hooks.delete(handle);
      },
    };
    this.#hooks.set(handle, hook);
    return handle;
  }

  /**
   * Runs the hooks over `value`; what a hook returns, undefined aside, takes its place. Hooks added meanwhile wait for the
   * next run.
   */
  run<V>(value: V, call: (hook: Hook, value: V) => V | Unchanged): V {
    let current = value;
    for (const [handle, hook] of [...this.#hooks]) {
      if (!this.#hooks.has(handle)) continue;
      const returned = call(hook, current);
      if (returned === undefined) continue;
      this.#check(returned);
      current = returned as V;
    }
    return current;
  }

  #check(returned: unknown): void {
    if (typeof (returned as { then?: unknown } | null)?.then === "function") {
      // Without this, an async hook that throws would also raise an unhandled rejection.
      Promise.resolve(returned).catch(() => {});
      throw argumentError(
        "hook",
        `a hook of ${this.#name}() returned a promise; hooks are synchronous, as the round would go on without its result`,
      );
    }
    if (this.#result.accepts(returned)) return;
    throw argumentError(
      "hook",
      `a hook of ${this.#name}() returned ${describe(returned)}; it must return ${this.#result.text} or undefined`,
    );
  }
}
