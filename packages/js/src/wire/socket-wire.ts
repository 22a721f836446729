import type { Channel, CheckedCombine, CpuTensor } from "@moe-a2a/core";
import { type AbortVerdict, encodeVerdict } from "../abort-record.js";
import type { RankContext } from "../context.js";
import { readCount } from "../headers.js";
import type { Lane } from "../lane.js";
import type { Window } from "../memory.js";
import { Inbox } from "./inbox.js";
import {
  encodeCombine,
  encodeDispatch,
  encodeFailure,
  encodeWords,
  MAX_MEETING,
  MESSAGE,
} from "./messages.js";
import { Outbox } from "./outbox.js";
import { Bytes, DispatchRows } from "./row-sources.js";
import { storeCombineNotice, storeDispatchNotice, storeResults, storeRows } from "./stores.js";
import type { DispatchRound, Wire } from "./wire.js";

const NOTHING = new Uint8Array(0);

/** Ranks that share no memory: each stores into its own window what the others' messages bring. */
export class SocketWire implements Wire {
  readonly #context: RankContext;
  readonly #channel: Channel;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  /** This rank's own window among none of the others'. */
  readonly #windows: readonly (Window | undefined)[];

  constructor(context: RankContext, channel: Channel) {
    this.#context = context;
    this.#channel = channel;
    this.#outbox = new Outbox(context, channel);
    this.#inbox = new Inbox(context);
    this.#windows = Array.from({ length: context.config.epSize }, (_, rank) =>
      rank === context.rank ? context.own : undefined,
    );
  }

  open(): void {
    this.#channel.listen((from, type, body) => this.#inbox.receive(from, type, body));
  }

  sendDispatch(lane: Lane, dispatch: DispatchRound): void {
    const context = this.#context;
    const { round, checked } = dispatch;
    const { rank, activeRanks, generation } = context;
    const stats = checked.expertStats?.data as Int32Array | undefined;
    if (checked.numLocalTokens > 0) storeRows(context, lane, dispatch, this.#windows);
    const tokensTo = lane.orderTokens(checked.numLocalTokens);
    this.#outbox.begin(lane);
    for (const target of activeRanks) {
      const count = lane.sendCounts[target]!;
      if (target === rank) {
        storeDispatchNotice(context, lane, context.own, rank, { round, generation, checked, stats }, count);
        continue;
      }
      const head = encodeDispatch(lane.index, generation, round, checked, count);
      this.#outbox.send(target, lane, MESSAGE.dispatch, head, new DispatchRows(checked, tokensTo(target)));
    }
  }

  sendCombine(
    lane: Lane,
    round: { readonly number: number; readonly maxTokens: number },
    checked: CheckedCombine<CpuTensor>,
  ): void {
    const context = this.#context;
    const { rank, activeRanks, generation } = context;
    // All of them: callers may use the memory again that they handed over, however long peers take.
    storeResults(context, lane, round, checked, activeRanks);
    this.#outbox.begin(lane);
    for (const target of activeRanks) {
      if (target === rank) {
        const notice = { round: round.number, generation, checked };
        storeCombineNotice(lane, context.own, rank, notice);
        continue;
      }
      // From the header: recvCounts is the caller's to write on.
      const count = readCount(context.own, lane, round.number, target);
      const start = lane.at.combine + target * round.maxTokens * checked.rowBytes;
      const rows = context.own.bytes.subarray(start, start + count * checked.rowBytes);
      const head = encodeCombine(lane.index, generation, round.number, checked, count);
      this.#outbox.send(target, lane, MESSAGE.combine, head, new Bytes(rows));
    }
  }

  unsent(lane: Lane): readonly number[] {
    return this.#outbox.unsent(lane);
  }

  release(lane: Lane): void {
    this.#outbox.release(lane);
  }

  resultsOf(owner: number, lane: Lane, row: { readonly maxTokens: number; readonly bytes: number }) {
    const { own, rank, config } = this.#context;
    const offset =
      owner === rank
        ? lane.at.combine + rank * row.maxTokens * row.bytes
        : lane.resultsAt(owner, config.maxTokensPerRank * row.bytes);
    return { window: own, offset };
  }

  tellFailure(peer: number, { error, generation, completed }: AbortVerdict): void {
    const body = encodeFailure(generation, completed, encodeVerdict(error));
    this.#channel.send(peer, MESSAGE.failure, body);
  }

  raiseGeneration(peer: number, generation: number): void {
    this.#channel.send(peer, MESSAGE.generation, encodeWords([generation]));
  }

  meetingOf(rank: number): number {
    return this.#inbox.meetings[rank]!;
  }

  tellMeeting(number: number): void {
    if (this.#inbox.meetings[this.#context.rank] === number) return;
    this.#inbox.meetings[this.#context.rank] = number;
    this.#tellAll(MESSAGE.meeting, encodeWords([Math.min(number, MAX_MEETING)]));
  }

  tellClose(): void {
    this.#tellAll(MESSAGE.closed, NOTHING);
  }

  close(): void {
    this.#channel.close();
  }

  #tellAll(type: number, body: Uint8Array): void {
    for (const [peer, window] of this.#windows.entries()) if (!window) this.#channel.send(peer, type, body);
  }
}
