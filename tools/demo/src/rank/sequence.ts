import type { Mixer, MixerState } from "../model/mixer.js";
import type { Request } from "../text/requests.js";

/** A request that runs on this rank: its tokens so far, and what each layer's mixer remembers of it. */
export class Sequence {
  readonly request: Request;
  readonly states: readonly MixerState[];
  readonly #tokens: Int32Array;
  #length: number;

  constructor(request: Request, layers: number, mixer: Mixer) {
    this.request = request;
    this.states = Array.from({ length: layers }, () => mixer.newState());
    this.#tokens = new Int32Array(request.prompt.length + request.answerTokens);
    this.#tokens.set(request.prompt);
    this.#length = request.prompt.length;
  }

  token(position: number): number {
    if (position >= this.#length)
      throw new RangeError(`request ${this.request.id} has no token ${position} yet`);
    return this.#tokens[position]!;
  }

  append(token: number): void {
    this.#tokens[this.#length++] = token;
  }

  /** The answer, once it has all its tokens. */
  get answer(): Int32Array | undefined {
    return this.#length === this.#tokens.length
      ? this.#tokens.subarray(this.request.prompt.length)
      : undefined;
  }
}
