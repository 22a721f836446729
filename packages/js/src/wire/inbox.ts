import { LIMITS, MalformedMessage } from "@moe-a2a/core";
import { decodeVerdict, storeAbortRecord } from "../abort-record.js";
import type { RankContext } from "../context.js";
import { payloadOffsets } from "../payload-layout.js";
import { MAX_MEETING, MESSAGE, readCombine, readDispatch, readFailure, WordReader } from "./messages.js";
import { statsOffset, storeCombineNotice, storeDispatchNotice } from "./stores.js";

/** Rows that are still to come, and what to do then. */
interface Arriving {
  readonly generation: number;
  /** Of another generation than this rank was in when one of them came: none of them counts any more. */
  stale: boolean;
  /** Where they go, in this rank's window. */
  readonly places: readonly { readonly at: number; readonly bytes: number }[];
  place: number;
  /** Bytes of the place that are filled. */
  filled: number;
  left: number;
  readonly finish: () => void;
}

/** The phase that a peer has begun last in a lane. */
interface Begun {
  generation: number | undefined;
  round: number;
  /** Which reset this rank was in then, and could not say which round it would start; 0: none. */
  early: number;
}

/** Does in this rank's window what peers would have stored there, had they seen it. */
export class Inbox {
  readonly #context: RankContext;
  /** By rank, then by lane. */
  readonly #arriving: (Arriving | undefined)[][];
  /** By phase, then by rank and lane. */
  readonly #begun: { readonly [phase in "dispatch" | "combine"]: readonly (readonly Begun[])[] };
  /** By rank, the number of the next reset that it can join. */
  readonly meetings: number[];

  constructor(context: RankContext) {
    const { epSize } = context.config;
    this.#context = context;
    this.#arriving = Array.from({ length: epSize }, () => [undefined, undefined]);
    const begun = () =>
      Array.from({ length: epSize }, () => [0, 1].map(() => ({ generation: undefined, round: 0, early: 0 })));
    this.#begun = { dispatch: begun(), combine: begun() };
    this.meetings = new Array<number>(epSize).fill(0);
  }

  /** Takes a message of a peer. @throws MalformedMessage for one that a rank of this instance does not send */
  receive(from: number, type: number, body: Uint8Array): void {
    const reader = new WordReader(body);
    switch (type) {
      case MESSAGE.dispatch:
        this.#dispatch(from, reader);
        break;
      case MESSAGE.combine:
        this.#combine(from, reader);
        break;
      case MESSAGE.more:
        this.#more(from, reader);
        break;
      case MESSAGE.failure:
        this.#failure(from, reader);
        break;
      case MESSAGE.generation:
        this.#generation(reader.any());
        break;
      case MESSAGE.closed: {
        const { own, control, layout } = this.#context;
        Atomics.store(own.words, control.closed(layout, from), 1);
        break;
      }
      case MESSAGE.meeting:
        this.meetings[from] = reader.upTo(MAX_MEETING);
        break;
      default:
        throw new MalformedMessage("a message of no known type");
    }
    this.#context.group.ring(this.#context.rank);
  }

  /** This rank's generation: a message of another one is of rounds that are over here, and does nothing. */
  get #current(): number {
    return Atomics.load(this.#context.own.words, this.#context.control.generation);
  }

  #dispatch(from: number, reader: WordReader): void {
    const context = this.#context;
    const head = readDispatch(reader, context.config, LIMITS.payloads);
    const { round, generation, maxTokens, rowBytes, statsLength, count } = head;
    this.#checkOrder("dispatch", from, head);
    const lane = context.lanes[head.lane]!;
    const offsets = payloadOffsets(context.layout, lane, round, head);
    const places = rowBytes.map((bytes, p) => ({
      at: offsets[p]! + from * maxTokens * bytes,
      bytes: count * bytes,
    }));
    places.unshift({ at: statsOffset(context, lane, round, from), bytes: statsLength * 4 });
    const notice = { round, generation, checked: head, stats: undefined };
    const finish = (): void => storeDispatchNotice(context, lane, context.own, from, notice, count);
    this.#begin(from, head.lane, generation, places, finish, reader.rest());
  }

  #combine(from: number, reader: WordReader): void {
    const context = this.#context;
    const head = readCombine(reader, context.config);
    const { round, generation, rowBytes, count } = head;
    this.#checkOrder("combine", from, head);
    const lane = context.lanes[head.lane]!;
    const places = [
      { at: lane.resultsAt(from, context.config.maxTokensPerRank * rowBytes), bytes: count * rowBytes },
    ];
    const notice = { round, generation, checked: head };
    const finish = (): void => storeCombineNotice(lane, context.own, from, notice);
    this.#begin(from, head.lane, generation, places, finish, reader.rest());
  }

  /**
   * Where rows go follows from what their sender says of the round. One that says several things, or is in rounds that
   * it cannot have come to, could write over what others have sent.
   *
   * @throws MalformedMessage for a phase that the sender has begun already, that waits for this rank, or that it has no part in
   */
  #checkOrder(
    phase: "dispatch" | "combine",
    from: number,
    {
      lane,
      generation,
      round,
    }: { readonly lane: number; readonly generation: number; readonly round: number },
  ): void {
    if (generation !== this.#current) return;
    const begun = this.#begun[phase][from]![lane]!;
    const { state, resets, failure, isActive, lanes } = this.#context;
    const isEarly = state === "resetting";
    if (begun.generation === generation) {
      const ahead = (round - begun.round) | 0;
      if (ahead <= 0) throw new MalformedMessage("a round that was begun before");
      // Rounds without slots have no combine to send; a dispatch every round has.
      if (phase === "dispatch" && ahead > 1) throw new MalformedMessage("a round that was left out");
      // One more would need this rank, which sends nothing now.
      if (isEarly && begun.early === resets) throw new MalformedMessage("a round too early");
    }
    begun.generation = generation;
    begun.round = round;
    begun.early = isEarly ? resets : 0;
    // Others may start a generation before this rank does, or without it. Nothing of it is handed out here until then.
    if (isEarly || failure) return;
    const { nextRound, current } = lanes[lane]!;
    // Its results follow this rank's rows; its dispatch may come before this rank's, or after.
    const last = phase === "combine" ? nextRound - 1 : nextRound;
    const first = phase === "combine" || current ? nextRound - 1 : nextRound;
    const isInTurn = ((round - first) | 0) >= 0 && ((round - last) | 0) <= 0;
    if (isActive[from] === 0 || !isInTurn) throw new MalformedMessage("a round out of turn");
  }

  #begin(
    from: number,
    lane: number,
    generation: number,
    places: Arriving["places"],
    finish: () => void,
    rows: Buffer,
  ): void {
    // Where the rows still to come would go is known, and they would come when others have sent theirs.
    if (this.#arriving[from]![lane]) throw new MalformedMessage("rows that did not come");
    const left = places.reduce((sum, { bytes }) => sum + bytes, 0);
    const arriving: Arriving = { generation, stale: false, places, place: 0, filled: 0, left, finish };
    this.#arriving[from]![lane] = arriving;
    this.#take(from, lane, arriving, rows);
  }

  #more(from: number, reader: WordReader): void {
    const lane = reader.upTo(this.#context.config.roundsInFlight - 1);
    const arriving = this.#arriving[from]![lane];
    if (!arriving) throw new MalformedMessage("rows of nothing");
    this.#take(from, lane, arriving, reader.rest());
  }

  /** Puts rows where they belong; once all are there, their notice says so. */
  #take(from: number, lane: number, arriving: Arriving, rows: Buffer): void {
    if (rows.length > arriving.left) throw new MalformedMessage("more rows than were announced");
    arriving.left -= rows.length;
    const { own } = this.#context;
    arriving.stale ||= arriving.generation !== this.#current;
    for (let taken = 0; !arriving.stale && taken < rows.length; ) {
      const { at, bytes } = arriving.places[arriving.place]!;
      const part = rows.subarray(taken, taken + bytes - arriving.filled);
      own.bytes.set(part, at + arriving.filled);
      taken += part.length;
      arriving.filled += part.length;
      if (arriving.filled < bytes) break;
      arriving.place++;
      arriving.filled = 0;
    }
    if (arriving.left > 0) return;
    this.#arriving[from]![lane] = undefined;
    if (!arriving.stale) arriving.finish();
  }

  #failure(from: number, reader: WordReader): void {
    const { own, layout, control } = this.#context;
    const record = readFailure(reader);
    if (record.generation !== this.#current) return;
    try {
      decodeVerdict(record.verdict.toString(), from);
    } catch {
      throw new MalformedMessage("no verdict");
    }
    storeAbortRecord(own, layout, control, from, record);
  }

  /** A reset has left this rank out. Of one before the generation that it is in since, it may hear late. */
  #generation(generation: number): void {
    const { own, control } = this.#context;
    if (((generation - this.#current) | 0) > 0) Atomics.store(own.words, control.generation, generation);
  }
}
