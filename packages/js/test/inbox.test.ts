import {
  ABORT_RECORD_BYTES,
  accumulatorBytes,
  type Channel,
  COMBINE_HEADER_BYTES,
  checkConfig,
  createLocalGroup,
  DISPATCH_HEADER_BYTES,
  FLAG_STRIDE,
  groupInternalsOf,
  layoutWorkspace,
  MalformedMessage,
  ROUND_BUFFERS,
} from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { readAbortRecord } from "../src/abort-record.js";
import { RankContext } from "../src/context.js";
import { Window } from "../src/memory.js";
import { encodeCombine, encodeDispatch, encodeFailure, encodeWords, MESSAGE } from "../src/wire/messages.js";
import { SocketWire } from "../src/wire/socket-wire.js";
import { LONG, smallConfig } from "./world.js";

const RANKS = 4;
const config = checkConfig(
  smallConfig(RANKS, {
    maxTokensPerRank: 5,
    maxDispatchBytesPerToken: 41,
    maxExpertStats: 3,
    roundsInFlight: 2,
  }),
);
const layout = layoutWorkspace(config, { sharedMemory: false });

type Receive = Parameters<Channel["listen"]>[0];

/** Rank 0 of four, and what hands it messages of the others. */
function rankZero(): { context: RankContext; receive: Receive } {
  let receive: Receive | undefined;
  const channel: Channel = {
    listen: (listener) => {
      receive = listener;
    },
    send: () => {},
    sendLazily: () => ({ fillNow: () => {} }),
    close: () => {},
  };
  const context = new RankContext({
    config,
    layout,
    rank: 0,
    group: groupInternalsOf(createLocalGroup(RANKS)[0]!)!,
    instance: 0,
    own: new Window(new ArrayBuffer(layout.windowBytes)),
    connect: (of) => new SocketWire(of, channel),
    privateMemory: new ArrayBuffer(layout.privateBytes),
    accumulatorBytes: accumulatorBytes(config),
    firstRound: 0,
    fillPadding: false,
  });
  context.wire.open();
  return { context, receive: receive! };
}

/** By rank, which bytes of the window its messages may change: 1 for those. */
const regions = Array.from({ length: RANKS }, (_, rank) => {
  const allowed = new Uint8Array(layout.windowBytes);
  const allow = (at: number, bytes: number) => allowed.fill(1, at, at + bytes);
  // Generation and count of records, then its closed word.
  allow(layout.control, 8);
  allow(layout.control + FLAG_STRIDE * (1 + rank), 4);
  allow(layout.abortRecords + rank * ABORT_RECORD_BYTES, ABORT_RECORD_BYTES);
  for (const lane of layout.lanes) {
    allow(lane.dispatchFlags + rank * FLAG_STRIDE, 4);
    allow(lane.combineFlags + rank * FLAG_STRIDE, 4);
    for (let copy = 0; copy < ROUND_BUFFERS; copy++) {
      const source = copy * RANKS + rank;
      allow(lane.dispatchHeaders + source * DISPATCH_HEADER_BYTES, DISPATCH_HEADER_BYTES);
      allow(lane.expertStats + source * layout.statsRowBytes, layout.statsRowBytes);
    }
    allow(lane.combineHeaders + rank * COMBINE_HEADER_BYTES, COMBINE_HEADER_BYTES);
    // Where a row lies in them follows from sizes, about which a rank may be wrong.
    allow(lane.recv, ROUND_BUFFERS * layout.recvBufferBytes);
    allow(lane.results!, RANKS * config.maxTokensPerRank * config.maxCombineBytesPerToken);
  }
  return allowed;
});

/** A small generator of whole numbers below `limit`, the same for the same seed. */
function random(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

const VERDICT = {
  code: "ERR_MOE_A2A_PEER_TIMEOUT",
  message: "rank 2 did not arrive",
  details: { phase: "dispatch", round: 3, missingRanks: [2], kind: "timeout" },
};

/** A message as a rank may send it in a generation and near a round, or nearly so. */
function message(
  next: (limit: number) => number,
  current: number,
  nextRound: number,
): { type: number; body: Buffer } {
  const odd = (limit: number): number =>
    next(20) > 0 ? next(limit + 1) : ([-1, limit + 1, 2 ** 31 - 1, -(2 ** 31)][next(4)] as number);
  const bytes = (limit: number): Buffer => Buffer.alloc(next(limit + 1), 1 + next(255));
  const round = next(20) > 0 ? nextRound - next(4) : next(2 ** 32);
  const [lane, generation] = [odd(1), next(8) > 0 ? current : current + next(3) - 1];
  switch (next(12)) {
    case 0:
    case 1:
    case 2: {
      const maxTokens = odd(5);
      const rowBytes = Array.from({ length: odd(3) & 15 }, () => odd(14));
      const [statsLength, count] = [odd(3), odd(Math.max(0, maxTokens))];
      const head = encodeDispatch(lane, generation, round, { maxTokens, rowBytes, statsLength }, count);
      const left = statsLength * 4 + count * rowBytes.reduce((sum, each) => sum + each, 0);
      const whole = left >= 0 && left < 10_000 && next(3) > 0 ? Buffer.alloc(left, 7) : bytes(60);
      return {
        type: MESSAGE.dispatch,
        body: Buffer.concat([head, whole.subarray(0, next(4) > 0 ? undefined : next(50))]),
      };
    }
    case 3:
    case 4: {
      const hiddenSize = odd(8);
      const dtype = (["float32", "float16", "bfloat16"] as const)[next(3)]!;
      const count = odd(5);
      const left = count * hiddenSize * (dtype === "float32" ? 4 : 2);
      const rows = left >= 0 && left < 10_000 && next(3) > 0 ? Buffer.alloc(left, 9) : bytes(60);
      const head = encodeCombine(lane, generation, round, { hiddenSize, dtype }, count);
      return { type: MESSAGE.combine, body: Buffer.concat([head, rows]) };
    }
    case 5:
    case 6:
      return { type: MESSAGE.more, body: Buffer.concat([encodeWords([lane]), bytes(40)]) };
    case 7:
      return {
        type: MESSAGE.failure,
        body: Buffer.from(
          encodeFailure(generation, [next(9), next(9)], Buffer.from(JSON.stringify(VERDICT))),
        ),
      };
    case 8:
      return { type: MESSAGE.generation, body: encodeWords([current + (next(20) > 0 ? -next(3) : 1)]) };
    case 9:
      return { type: MESSAGE.closed, body: bytes(4) };
    case 10:
      return { type: MESSAGE.meeting, body: encodeWords([odd(9)]) };
    default:
      return { type: next(256), body: bytes(90) };
  }
}

/** The same with some of its bytes changed, cut or repeated. */
function mutate(body: Buffer, next: (limit: number) => number): Buffer {
  const changed = Buffer.from(body);
  for (let i = next(3); i > 0 && changed.length > 0; i--) changed[next(changed.length)] = next(256);
  if (next(6) === 0) return changed.subarray(0, next(changed.length + 1));
  if (next(6) === 0) return Buffer.concat([changed, changed.subarray(next(changed.length + 1))]);
  return changed;
}

describe("the inbox", () => {
  const seeds = LONG ? 600 : 40;

  it(`writes where a peer's messages belong, whatever they say (${seeds} seeds)`, () => {
    const outcomes = { taken: 0, refused: 0 };
    for (let seed = 1; seed <= seeds; seed++) {
      const next = random(seed);
      const { context, receive } = rankZero();
      const { bytes, words } = context.own;
      const before = new Uint8Array(bytes.length);
      for (let batch = 0; batch < 20; batch++) {
        const from = 1 + next(RANKS - 1);
        // Another generation, in which rounds begin anew and this rank is not left out.
        const generation = batch - 10;
        words[context.control.generation] = generation;
        context.generation = generation;
        const nextRound = 2 ** 31 - 10 + batch;
        for (const lane of context.lanes) lane.nextRound = nextRound;
        before.set(bytes);
        for (let i = 0; i < 20; i++) {
          const { type, body } = message(next, generation, nextRound);
          try {
            receive(from, type, next(3) === 0 ? mutate(body, next) : body);
            outcomes.taken++;
          } catch (error) {
            if (!(error instanceof MalformedMessage)) throw error;
            outcomes.refused++;
          }
        }
        const outside = bytes.findIndex((byte, at) => byte !== before[at] && regions[from]![at] === 0);
        expect([seed, outside]).toEqual([seed, -1]);
        // What it keeps of failures can be read.
        readAbortRecord(context.own, layout, context.control, [1, 2, 3], generation);
      }
    }
    // Both happen often, or the messages say nothing.
    expect(Math.min(outcomes.taken, outcomes.refused)).toBeGreaterThan((seeds * 400) / 10);
  });

  it("takes one dispatch and one combine of a round, of whom it concerns, in turn", () => {
    const { context, receive } = rankZero();
    const shape = { maxTokens: 1, rowBytes: [8], statsLength: 0 };
    const dispatch = (from: number, round: number, generation = 0) =>
      receive(from, MESSAGE.dispatch, encodeDispatch(0, generation, round, shape, 0));
    const combine = (from: number, round: number) =>
      receive(from, MESSAGE.combine, encodeCombine(0, 0, round, { hiddenSize: 1, dtype: "float32" }, 0));
    dispatch(1, 0);
    expect(() => dispatch(1, 0)).toThrowError(MalformedMessage);
    expect(() => dispatch(1, 1)).toThrowError(/out of turn/);
    // Its results follow this rank's own dispatch.
    expect(() => combine(2, 0)).toThrowError(/out of turn/);
    context.lanes[0]!.nextRound = 1;
    combine(1, 0);
    expect(() => combine(1, 0)).toThrowError(/begun before/);
    dispatch(2, 1);
    expect(() => dispatch(2, 2 ** 31)).toThrowError(MalformedMessage);
    // What a rank that is left out still sends is of another generation.
    context.isActive[3] = 0;
    dispatch(3, 1, 5);
    expect(() => dispatch(3, 1)).toThrowError(/out of turn/);
    // Rounds that a reset has given up may be behind those that follow, in its own generation.
    context.own.words[context.control.generation] = 1;
    context.state = "resetting";
    dispatch(1, 40, 1);
    expect(() => dispatch(1, 40, 1)).toThrowError(/begun before/);
  });

  it("takes no round that lies behind, whose rows would go where others' lie by now", () => {
    const shape = { maxTokens: 5, rowBytes: [8], statsLength: 0 };
    const send = (receive: Receive, round: number, count = 0, sent = count) => {
      const head = encodeDispatch(0, 0, round, shape, count);
      receive(1, MESSAGE.dispatch, Buffer.concat([head, Buffer.alloc(8 * sent)]));
    };
    const results = (receive: Receive, round: number) =>
      receive(1, MESSAGE.combine, encodeCombine(0, 0, round, { hiddenSize: 1, dtype: "float32" }, 0));
    const started = (round: number) => {
      const rank = rankZero();
      rank.context.lanes[0]!.nextRound = round;
      return rank;
    };
    // Before this rank's first dispatch of a generation, and after it.
    expect(() => send(started(4).receive, 2)).toThrowError(/out of turn/);
    expect(() => send(started(4).receive, 3)).toThrowError(/out of turn/);
    const { context, receive } = started(5);
    context.lanes[0]!.current = { unfinished: "it has not arrived", giveUp: () => {} };
    send(receive, 4);
    expect(() => results(receive, 3)).toThrowError(/out of turn/);
    // Rows that are announced and held back.
    const other = started(4);
    send(other.receive, 4, 2, 1);
    other.context.lanes[0]!.nextRound = 5;
    expect(() => results(other.receive, 4)).toThrowError(/did not come/);
    // While this rank is in a reset, and cannot tell which round is next.
    const resetting = started(4);
    resetting.context.state = "resetting";
    resetting.context.resets = 1;
    send(resetting.receive, 2);
    expect(() => send(resetting.receive, 3)).toThrowError(/too early/);
    resetting.context.state = "open";
    expect(() => send(resetting.receive, 4)).toThrowError(/left out/);
    // A round that came in one reset was played by the next, when this rank is in another.
    const again = started(4);
    again.context.state = "resetting";
    again.context.resets = 1;
    send(again.receive, 4);
    again.context.resets = 2;
    send(again.receive, 5);
    expect(() => send(again.receive, 6)).toThrowError(/too early/);
  });

  it("takes rows of one generation whole or not at all", () => {
    const { context, receive } = rankZero();
    const { words, bytes } = context.own;
    const lane = context.lanes[0]!;
    const shape = { maxTokens: 1, rowBytes: [8], statsLength: 0 };
    const begin = (round: number, generation: number): void => {
      const head = encodeDispatch(0, generation, round, shape, 1);
      receive(1, MESSAGE.dispatch, Buffer.concat([head, Buffer.alloc(4, 1)]));
    };
    const end = (): void => receive(1, MESSAGE.more, Buffer.concat([encodeWords([0]), Buffer.alloc(4, 2)]));
    const flag = (): number => words[lane.flag("dispatch", 1)]!;
    words[lane.flag("dispatch", 1)] = -1;
    // Begun before the generation that they name, or ended after it.
    context.state = "resetting";
    begin(0, 1);
    words[context.control.generation] = 1;
    end();
    expect(flag()).toBe(-1);
    begin(0, 1);
    words[context.control.generation] = 2;
    end();
    expect(flag()).toBe(-1);
    begin(0, 2);
    expect(flag()).toBe(-1);
    end();
    expect(flag()).toBe(0);
    const at = lane.at.recv + 8;
    expect([...bytes.subarray(at, at + 8)]).toEqual([1, 1, 1, 1, 2, 2, 2, 2]);
  });
});
