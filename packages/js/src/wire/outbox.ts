import type { Channel, LazyMessage } from "@moe-a2a/core";
import type { RankContext } from "../context.js";
import type { Lane } from "../lane.js";
import { encodeWords, MESSAGE } from "./messages.js";
import type { RowSource } from "./row-sources.js";

/** Rows that one message carries: large enough to be worth a call, small enough not to hold up what follows, in bytes. */
const CHUNK_BYTES = 2 ** 18;

const NOBODY: readonly number[] = [];

/** What a lane has under way to its peers. */
class LaneOutbox {
  readonly messages: LazyMessage[] = [];
  /** By rank, the phases whose last message the system has not taken. */
  readonly unsent: Int32Array;
  total = 0;

  constructor(ranks: number) {
    this.unsent = new Int32Array(ranks);
  }
}

/** Sends rows from the callers' own memory, as fast as peers take them, and knows what is not sent yet. */
export class Outbox {
  readonly #context: RankContext;
  readonly #channel: Channel;
  readonly #lanes: readonly LaneOutbox[];

  constructor(context: RankContext, channel: Channel) {
    this.#context = context;
    this.#channel = channel;
    this.#lanes = context.config.roundsInFlight === 2 ? [this.#lane(), this.#lane()] : [this.#lane()];
  }

  /** Forgets the messages of the lane's last phase, which are sent. */
  begin(lane: Lane): void {
    this.#lanes[lane.index]!.messages.length = 0;
  }

  /** Sends a head and the rows behind it. */
  send(to: number, lane: Lane, type: number, head: Uint8Array, rows: RowSource): void {
    const box = this.#lanes[lane.index]!;
    const sent = (): void => {
      box.total--;
      // Others may never take theirs: they were left out, or lost.
      if (--box.unsent[to]! === 0) this.#context.group.ring(this.#context.rank);
    };
    box.unsent[to]!++;
    box.total++;
    const more = encodeWords([lane.index]);
    let from = 0;
    do {
      const start = from;
      const bytes = Math.min(rows.bytes - start, CHUNK_BYTES);
      from += bytes;
      const fill = (target: Uint8Array): void => rows.fill(target, start);
      const message = { head: start === 0 ? head : more, bytes, fill };
      const isLast = from === rows.bytes;
      box.messages.push(
        this.#channel.sendLazily(to, start === 0 ? type : MESSAGE.more, message, isLast ? sent : undefined),
      );
    } while (from < rows.bytes);
  }

  /** The active ranks that have not taken everything, and have not left. */
  unsent(lane: Lane): readonly number[] {
    const { total, unsent } = this.#lanes[lane.index]!;
    if (total === 0) return NOBODY;
    const { activeRanks } = this.#context;
    return activeRanks.filter((rank) => unsent[rank]! > 0 && !this.#context.departure(rank));
  }

  /** Copies what is not sent, so that callers may change what they handed over. */
  release(lane: Lane): void {
    for (const message of this.#lanes[lane.index]!.messages.splice(0)) message.fillNow();
  }

  #lane(): LaneOutbox {
    return new LaneOutbox(this.#context.config.epSize);
  }
}
