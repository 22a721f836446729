import { type CombineDType, describe, isMoeA2AError, type Tensor } from "@moe-a2a/core";
import { argumentError, checkInteger } from "./check.js";
import type { CombineOptions, DispatchOptions, MoeA2ADispatcherOptions } from "./dispatcher-options.js";
import type { FlashinferCombineInput, FlashinferDispatchOutput } from "./formats.js";
import type { PostCombineHook, PostDispatchHook, PreCombineHook, PreDispatchHook } from "./hook-types.js";
import { type HookHandle, HookList, type HookResult } from "./hooks.js";
import { traceWhereAsked } from "./observe/chrome-trace.js";
import { logWhereAsked } from "./observe/debug-log.js";
import { checkQuantConfig, checkTokenForm, combineBytesPerToken, type QuantConfig } from "./quant.js";
import {
  arrival,
  expertOutputOf,
  type Round,
  type RoundSettings,
  receivedTokens,
  sendTokens,
  startCombine,
} from "./round.js";
import { type DispatcherCall, type DispatcherStage, type RunningCall, StageMachine } from "./stage.js";
import type { TopKOutput } from "./topk.js";

const PAIR: HookResult = {
  text: "[hiddenStates, topkOutput]",
  accepts: (returned) => Array.isArray(returned) && returned.length === 2,
};

const objectNamed = (text: string): HookResult => ({
  text,
  accepts: (returned) => typeof returned === "object" && returned !== null,
});

/**
 * SGLang's token dispatcher over one rank of an all-to-all: dispatch, run the experts, combine. Many layers may share one
 * all-to-all, one after another.
 *
 * A call that throws because of its arguments or a hook leaves the stage as it was, and may be made again. A round that
 * fails (a rejected promise) ends at stage INITIAL: `a2a.reset()` on every rank, then go on.
 */
export class MoeA2ADispatcher<T extends Tensor = Tensor> {
  readonly #settings: RoundSettings<T>;
  readonly #stages = new StageMachine();
  readonly #preDispatch = new HookList<PreDispatchHook<T>>("registerPreDispatchHook", PAIR);
  readonly #postDispatch = new HookList<PostDispatchHook<T>>(
    "registerPostDispatchHook",
    objectNamed("a dispatch output"),
  );
  readonly #preCombine = new HookList<PreCombineHook<T>>(
    "registerPreCombineHook",
    objectNamed("a combine input"),
  );
  readonly #postCombine = new HookList<PostCombineHook<T>>(
    "registerPostCombineHook",
    objectNamed("a tensor"),
  );
  #quantConfig: QuantConfig<T> = { format: "none" };
  #overlapArgs: unknown;
  #metaOverlapArgs: unknown;
  #round: Round<T> | undefined;

  /** @throws ERR_MOE_A2A_ARGUMENT */
  constructor(options: MoeA2ADispatcherOptions<T>) {
    this.#settings = checkOptions(options);
    logWhereAsked();
    traceWhereAsked();
  }

  get hiddenSize(): number {
    return this.#settings.hiddenSize;
  }

  get dtype(): CombineDType {
    return this.#settings.dtype;
  }

  get stage(): DispatcherStage {
    return this.#stages.stage;
  }

  get quantConfig(): QuantConfig<T> {
    return this.#quantConfig;
  }

  /** The first of what `setOverlapArgs` was given, for expert runners and hooks to read. */
  get overlapArgs(): unknown {
    return this.#overlapArgs;
  }

  /** The second of what `setOverlapArgs` was given. */
  get metaOverlapArgs(): unknown {
    return this.#metaOverlapArgs;
  }

  /**
   * Sets the form in which hidden states travel from the next dispatch on; the same format on every rank.
   *
   * @throws ERR_MOE_A2A_ARGUMENT
   */
  setQuantConfig(config: QuantConfig<T>): void {
    this.#quantConfig = checkQuantConfig("setQuantConfig()", config, this.hiddenSize);
  }

  setOverlapArgs(combineOverlapArgs: unknown, metaOverlapArgs: unknown): void {
    this.#overlapArgs = combineOverlapArgs;
    this.#metaOverlapArgs = metaOverlapArgs;
  }

  clearOverlapArgs(): void {
    this.setOverlapArgs(undefined, undefined);
  }

  registerPreDispatchHook(hook: PreDispatchHook<T>): HookHandle {
    return this.#preDispatch.register(hook);
  }

  registerPostDispatchHook(hook: PostDispatchHook<T>): HookHandle {
    return this.#postDispatch.register(hook);
  }

  registerPreCombineHook(hook: PreCombineHook<T>): HookHandle {
    return this.#preCombine.register(hook);
  }

  registerPostCombineHook(hook: PostCombineHook<T>): HookHandle {
    return this.#postCombine.register(hook);
  }

  /**
   * Sends this rank's tokens `[L, H]` to the ranks of their experts; L may be 0. On the CPU resolved once every rank's
   * tokens have arrived, on a GPU once enqueued.
   *
   * @throws (rejects) as `dispatchA()` and `dispatchB()`
   */
  async dispatch(
    hiddenStates: T,
    topkOutput: TopKOutput<T>,
    options: DispatchOptions = {},
  ): Promise<FlashinferDispatchOutput<T>> {
    this.#startDispatch("dispatch", hiddenStates, topkOutput, options);
    return await this.#finishDispatch("dispatch");
  }

  /**
   * Enqueues a dispatch.
   *
   * @throws ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_CAPACITY, ERR_MOE_A2A_EXPERT_ID: nothing was sent, call again
   * @throws ERR_MOE_A2A_STATE at another stage than INITIAL, and where the all-to-all has no free lane or has failed
   */
  dispatchA(hiddenStates: T, topkOutput: TopKOutput<T>, options: DispatchOptions = {}): void {
    this.#startDispatch("dispatchA", hiddenStates, topkOutput, options);
  }

  /**
   * Finishes the dispatch.
   *
   * @throws (rejects) with the round's failure, then at stage INITIAL; ERR_MOE_A2A_STATE where no `dispatchA()` came before
   */
  async dispatchB(): Promise<FlashinferDispatchOutput<T>> {
    return await this.#finishDispatch("dispatchB");
  }

  /**
   * Brings the experts' results home and sums them. Without `out`, each call returns a new tensor, which later layers
   * leave alone.
   *
   * @throws (rejects) as `combineA()` and `combineB()`
   */
  async combine(combineInput: FlashinferCombineInput<T>, options: CombineOptions<T> = {}): Promise<T> {
    this.#startCombine("combine", combineInput, options);
    return await this.#finishCombine("combine");
  }

  /**
   * Enqueues a combine.
   *
   * @throws ERR_MOE_A2A_ARGUMENT: nothing was sent, call again
   * @throws ERR_MOE_A2A_STATE at another stage than AFTER_DISPATCH_B, and where the all-to-all has failed
   */
  combineA(combineInput: FlashinferCombineInput<T>, options: CombineOptions<T> = {}): void {
    this.#startCombine("combineA", combineInput, options);
  }

  /**
   * Finishes the combine.
   *
   * @throws (rejects) with the round's failure, then at stage INITIAL; ERR_MOE_A2A_STATE where no `combineA()` came before
   */
  async combineB(): Promise<T> {
    return await this.#finishCombine("combineB");
  }

  /**
   * Goes back to stage INITIAL, giving up a round that was left half-way. It touches nothing but this dispatcher: call it
   * after `a2a.reset()`, which gives up the round on every rank.
   */
  reset(): void {
    this.#stages.reset();
    this.#round = undefined;
  }

  #startDispatch(
    call: "dispatch" | "dispatchA",
    hiddenStates: T,
    topkOutput: TopKOutput<T>,
    options: DispatchOptions,
  ): void {
    const running = this.#stages.begin(call);
    let next: DispatcherStage = "INITIAL";
    try {
      const [hidden, topk] = this.#preDispatch.run<readonly [T, TopKOutput<T>]>(
        [hiddenStates, topkOutput],
        (hook, [h, t]) => hook(this, h, t),
      );
      this.#stages.check(running);
      this.#round = sendTokens(this.#where(call), this.#settings, this.#quantConfig, hidden, topk, options);
      next = "AFTER_DISPATCH_A";
    } finally {
      this.#end(running, next);
    }
  }

  async #finishDispatch(call: "dispatch" | "dispatchB"): Promise<FlashinferDispatchOutput<T>> {
    const running = this.#stages.begin("dispatchB", call);
    const round = this.#round!;
    await this.#arrival(running, round);
    let next: DispatcherStage = "AFTER_DISPATCH_A";
    try {
      const received = receivedTokens(this.#settings, round);
      const output = this.#postDispatch.run(received, (hook, value) => hook(this, value));
      this.#stages.check(running);
      next = "AFTER_DISPATCH_B";
      return output;
    } finally {
      this.#end(running, next);
    }
  }

  #startCombine(
    call: "combine" | "combineA",
    combineInput: FlashinferCombineInput<T>,
    { out }: CombineOptions<T>,
  ): void {
    const running = this.#stages.begin(call);
    const round = this.#round!;
    let next: DispatcherStage = "AFTER_DISPATCH_B";
    try {
      const input = this.#preCombine.run(combineInput, (hook, value) => hook(this, value));
      this.#stages.check(running);
      const expertOutput = expertOutputOf(this.#where(call), this.#settings, round, input);
      try {
        startCombine(this.#settings, round, expertOutput, out);
        next = "AFTER_COMBINE_A";
      } catch (e) {
        // The round has failed meanwhile, and can never be combined.
        if (isMoeA2AError(e, "ERR_MOE_A2A_STATE")) next = "INITIAL";
        throw e;
      }
    } finally {
      this.#end(running, next);
    }
  }

  async #finishCombine(call: "combine" | "combineB"): Promise<T> {
    const running = this.#stages.begin("combineB", call);
    const round = this.#round!;
    await this.#arrival(running, round);
    let next: DispatcherStage = "AFTER_COMBINE_A";
    try {
      const output = this.#postCombine.run(round.combine!.output, (hook, value) => hook(this, value));
      this.#stages.check(running);
      next = "INITIAL";
      return output;
    } finally {
      this.#end(running, next);
    }
  }

  async #arrival(running: RunningCall, round: Round<T>): Promise<void> {
    try {
      await arrival(round);
    } catch (e) {
      this.#end(running, "INITIAL");
      throw e;
    }
    this.#stages.check(running);
  }

  #end(running: RunningCall, stage: DispatcherStage): void {
    // One dispatcher per layer is usual: the last round's tensors are not kept alive by each of them.
    if (this.#stages.end(running, stage) && stage === "INITIAL") this.#round = undefined;
  }

  #where(call: DispatcherCall): string {
    return `${call}() on rank ${this.#settings.a2a.epRank}`;
  }
}

function checkOptions<T extends Tensor>(options: MoeA2ADispatcherOptions<T>): RoundSettings<T> {
  const where = "new MoeA2ADispatcher()";
  if (typeof options !== "object" || options === null) {
    throw argumentError("options", `${where}: options is ${describe(options)}, not an object`);
  }
  const { a2a, hiddenSize, dtype, invalidTokenExpertId = -1, combineInPlace = false, lane } = options;
  if (typeof a2a?.dispatch !== "function" || typeof a2a.config !== "object") {
    throw argumentError("a2a", `${where}: a2a is ${describe(a2a)}; it must come from createMoeAllToAll()`);
  }
  checkTokenForm(where, { hiddenSize, dtype });
  const { maxCombineBytesPerToken: limit, roundsInFlight = 1 } = a2a.config;
  const bytes = combineBytesPerToken({ hiddenSize, dtype });
  if (bytes > limit) {
    throw argumentError(
      "hiddenSize",
      `${where}: a row of ${hiddenSize} ${dtype} has ${bytes} bytes, more than maxCombineBytesPerToken (${limit}); ` +
        "create the all-to-all with maxCombineBytesPerToken: combineBytesPerToken({ hiddenSize, dtype })",
    );
  }
  checkInteger(where, "invalidTokenExpertId", invalidTokenExpertId, -(2 ** 31), 2 ** 31 - 1);
  if (typeof combineInPlace !== "boolean") {
    throw argumentError(
      "combineInPlace",
      `${where}: combineInPlace is ${describe(combineInPlace)}; it must be true or false`,
    );
  }
  if (lane !== undefined) checkInteger(where, "lane", lane, 0, roundsInFlight - 1);
  return { a2a, hiddenSize, dtype, invalidTokenExpertId, combineInPlace, lane };
}
