import type { Channel } from "@moe-a2a/core";
import { MalformedMessage } from "@moe-a2a/core";

/** What ranks know of one another on the host, without asking a GPU. */
export interface PeerWords {
  /** Generation of this rank, which resets of others raise too. */
  readonly generation: number;
  /** Takes a new generation. */
  setGeneration(generation: number): void;
  /** Raises the generation of a rank that a reset leaves out. */
  raiseGeneration(peer: number, generation: number): void;
  /** Number of the next reset that `rank` can join, as far as this rank knows. */
  meetingOf(rank: number): number;
  setMeeting(number: number): void;
  hasClosed(peer: number): boolean;
  announceClose(): void;
}

const WORDS = { generation: 0, meeting: 1, closed: 2, count: 4 } as const;
export const WORDS_BYTES = WORDS.count * 4;

/** Words in memory that all ranks see. */
export class SharedWords implements PeerWords {
  readonly #rank: number;
  readonly #words: readonly Int32Array[];

  /** @param memories of {@link WORDS_BYTES}, by rank */
  constructor(rank: number, memories: readonly ArrayBufferLike[]) {
    this.#rank = rank;
    this.#words = memories.map((memory) => new Int32Array(memory));
  }

  get generation(): number {
    return Atomics.load(this.#words[this.#rank]!, WORDS.generation);
  }

  setGeneration(generation: number): void {
    this.raiseGeneration(this.#rank, generation);
  }

  raiseGeneration(peer: number, generation: number): void {
    Atomics.store(this.#words[peer]!, WORDS.generation, generation);
  }

  meetingOf(rank: number): number {
    return Atomics.load(this.#words[rank]!, WORDS.meeting);
  }

  setMeeting(number: number): void {
    Atomics.store(this.#words[this.#rank]!, WORDS.meeting, number);
  }

  hasClosed(peer: number): boolean {
    return Atomics.load(this.#words[peer]!, WORDS.closed) !== 0;
  }

  announceClose(): void {
    Atomics.store(this.#words[this.#rank]!, WORDS.closed, 1);
  }
}

const MESSAGE = { generation: 1, meeting: 2, closed: 3 } as const;

function encode(word: number): Uint8Array {
  const body = Buffer.alloc(4);
  body.writeInt32LE(word | 0);
  return body;
}

/** Words of ranks in other processes, as these have told them. */
export class ToldWords implements PeerWords {
  readonly #rank: number;
  readonly #channel: Channel;
  readonly #meetings: number[];
  readonly #closed = new Set<number>();
  #generation = 0;

  constructor(rank: number, ranks: number, channel: Channel) {
    this.#rank = rank;
    this.#channel = channel;
    this.#meetings = new Array<number>(ranks).fill(0);
    channel.listen((from, type, body) => this.#receive(from, type, body));
  }

  get generation(): number {
    return this.#generation;
  }

  setGeneration(generation: number): void {
    this.#generation = generation;
  }

  raiseGeneration(peer: number, generation: number): void {
    this.#channel.send(peer, MESSAGE.generation, encode(generation));
  }

  meetingOf(rank: number): number {
    return this.#meetings[rank]!;
  }

  setMeeting(number: number): void {
    if (this.#meetings[this.#rank] === number) return;
    this.#meetings[this.#rank] = number;
    this.#tellAll(MESSAGE.meeting, number);
  }

  hasClosed(peer: number): boolean {
    return this.#closed.has(peer);
  }

  announceClose(): void {
    this.#tellAll(MESSAGE.closed, 1);
    this.#channel.close();
  }

  #tellAll(type: number, word: number): void {
    for (let peer = 0; peer < this.#meetings.length; peer++) {
      if (peer !== this.#rank) this.#channel.send(peer, type, encode(word));
    }
  }

  #receive(from: number, type: number, body: Uint8Array): void {
    if (body.length !== 4) throw new MalformedMessage("a message of another length");
    const word = new DataView(body.buffer, body.byteOffset, 4).getInt32(0, true);
    if (type === MESSAGE.meeting) this.#meetings[from] = word;
    else if (type === MESSAGE.closed) this.#closed.add(from);
    else if (type === MESSAGE.generation) {
      // Of a reset before the generation that this rank is in since, it may hear late.
      if (((word - this.#generation) | 0) > 0) this.#generation = word;
    } else throw new MalformedMessage("a message of no known type");
  }
}
