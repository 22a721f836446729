import { types } from "node:util";
import { isMoeA2AError } from "@moe-a2a/core";
import type { Api } from "./api.js";
import { coreApis } from "./apis-core.js";
import { cudaApis } from "./apis-cuda.js";
import { jsApis } from "./apis-js.js";
import { dispatchAll, sglangApis } from "./apis-sglang.js";
import type { Case, Step } from "./case.js";
import { mutate } from "./mutate.js";
import { Thrown } from "./values.js";
import { checkWords } from "./words.js";
import { WORLDS, World, type WorldKind } from "./world.js";

// Instances have the state that is worth disturbing.
const APIS: readonly Api[] = [
  ...coreApis,
  ...cudaApis,
  ...[jsApis, jsApis, jsApis].flat(),
  ...[sglangApis, sglangApis].flat(),
];

/** What a call came to. */
type Outcome = { readonly error: unknown } | "ok";

/** Milliseconds that anything may take which nobody waits for any more. */
const SETTLE_MS = 10_000;

/** Errors of arguments, after which nothing has changed. */
const HARMLESS = new Set([
  "ERR_MOE_A2A_CONFIG",
  "ERR_MOE_A2A_ARGUMENT",
  "ERR_MOE_A2A_CAPACITY",
  "ERR_MOE_A2A_EXPERT_ID",
  "ERR_MOE_A2A_STATE",
  "ERR_MOE_A2A_UNAVAILABLE",
]);

/** Plays cases, and keeps count of what they came to. */
export class Player {
  /** By API, then by outcome. */
  readonly counts = new Map<string, Map<string, number>>();
  rounds = 0;
  readonly #worlds = new Map<WorldKind, World>();
  readonly #rejections: unknown[] = [];
  readonly #onRejection = (reason: unknown): void => void this.#rejections.push(reason);

  constructor() {
    process.on("unhandledRejection", this.#onRejection);
    process.on("uncaughtException", this.#onRejection);
  }

  /** @throws where a call came to something that it must not come to, or left something behind */
  async play({ world: number, steps }: Case): Promise<void> {
    // The world whose thread was torn down takes a thread each time that it is made anew.
    const kind = number > 98 ? "lost" : number > 80 ? "processes" : number > 60 ? "threads" : "local";
    const world = await this.#world(kind);
    try {
      await this.#playIn(world, steps);
    } catch (error) {
      this.#worlds.delete(kind);
      await world.dispose().catch(() => {});
      throw error;
    }
  }

  nameOf({ api }: Step): string {
    return APIS[api % APIS.length]!.name;
  }

  async close(): Promise<void> {
    for (const kind of WORLDS) await this.#worlds.get(kind)?.dispose();
    process.off("unhandledRejection", this.#onRejection).off("uncaughtException", this.#onRejection);
  }

  async #world(kind: WorldKind): Promise<World> {
    const known = this.#worlds.get(kind);
    if (known) return known;
    const made = await World.make(kind);
    this.#worlds.set(kind, made);
    return made;
  }

  async #playIn(world: World, steps: readonly Step[]): Promise<void> {
    world.begin();
    const pending: Promise<Outcome>[] = [];
    let touched = false;
    for (const step of steps) {
      const api = APIS[step.api % APIS.length]!;
      if (api.needs && !touched && !world.acted) {
        if (world.dispatches.length === 0 && world.dispatchers.length === 0) await begin(world, api.needs);
        // Where all goes well, the round goes on as it was meant to; a dispatcher's is given up.
        touched ||= api.needs === "dispatcher";
      }
      const { outcome, later } = this.#call(world, api, step);
      if (later && !api.unbounded) pending.push(later);
      const soon = later
        ? await Promise.race([later, new Promise<undefined>((r) => setImmediate(r, undefined))])
        : outcome;
      touched ||= !api.pure && !(typeof soon === "object" && isHarmless(soon.error));
    }
    const untouched = !(touched || world.acted);
    // A call that was refused has left the round as it was.
    if (untouched) await this.#exactly(() => world.finish());
    const usable = untouched || (await world.reset());
    if (usable) await this.#exactRound(world);
    else {
      this.#worlds.delete(world.kind);
      await world.dispose();
    }
    await settled(pending);
    if (world.acted && usable) await this.#exactRound(world);
    const [rejection] = this.#rejections.splice(0);
    if (rejection) throw new Error("nobody handled a rejection", { cause: rejection });
  }

  #exactRound(world: World): Promise<void> {
    this.rounds++;
    return this.#exactly(() => world.exactRound());
  }

  async #exactly(play: () => Promise<void>): Promise<void> {
    try {
      await play();
    } catch (cause) {
      throw new Error("the instances do not play exact rounds any more", { cause });
    }
  }

  /** Calls, and looks at what that came to as soon as it is known. */
  #call(world: World, api: Api, step: Step): { outcome?: Outcome; later?: Promise<Outcome> } {
    const rank = step.rank % world.a2as.length;
    const self = api.on?.(world, rank, step.pick);
    if (api.on && !self) {
      this.#count(api, "no handle");
      return { outcome: { error: undefined } };
    }
    const mutations = step.mutations.filter((m) => !("value" in m && api.never?.includes(m.value)));
    const { args, on } = mutate(api.args(world, rank, step.pick), mutations, world, rank);
    const target = api.on && on ? on.value : self;
    let result: unknown;
    try {
      result = api.call(target as never, args as never, world, self as never);
    } catch (error) {
      return { outcome: this.#judge(api, error) };
    }
    if (!types.isPromise(result)) {
      this.#count(api, "ok");
      return { outcome: "ok" };
    }
    const later = result.then(
      (): Outcome => {
        this.#count(api, "ok");
        return "ok";
      },
      (error) => this.#judge(api, error),
    );
    // Whoever waits for it throws; by itself it must not.
    later.catch(() => {});
    return { later };
  }

  #judge(api: Api, error: unknown): Outcome {
    checkWords(error);
    if (isMoeA2AError(error)) this.#count(api, error.code.slice("ERR_MOE_A2A_".length));
    else if (error instanceof TypeError) this.#count(api, "TypeError");
    else if (error instanceof Thrown || isReason(error)) this.#count(api, "the caller's own");
    else throw new Error(`${api.name} came to something else`, { cause: error });
    return { error };
  }

  #count({ name }: Api, outcome: string): void {
    const counts = this.counts.get(name) ?? new Map<string, number>();
    this.counts.set(name, counts);
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  }
}

/** Has a round under way for a call that needs one. */
async function begin(world: World, needs: NonNullable<Api["needs"]>): Promise<void> {
  if (needs === "dispatcher") return dispatchAll(world);
  await world.prepare();
  if (needs === "combined") await world.finish();
}

/** Signals of the cases that give no reason of their own. */
function isReason(error: unknown): boolean {
  return error === undefined || error === 1;
}

function isHarmless(error: unknown): boolean {
  return !isMoeA2AError(error) || HARMLESS.has(error.code);
}

/** @throws where something does not end that has no reason left to go on, or came to what it must not come to */
async function settled(pending: readonly Promise<Outcome>[]): Promise<void> {
  if (pending.length === 0) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("a promise does not settle")), SETTLE_MS);
  });
  try {
    await Promise.race([Promise.all(pending), late]);
  } finally {
    clearTimeout(timer);
  }
}
