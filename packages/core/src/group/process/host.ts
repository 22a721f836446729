import type { Socket } from "node:net";
import { MoeA2AError } from "../../errors.js";
import { fromVerdict } from "../../verdict.js";
import type { Group } from "../group.js";
import { groupInternalsOf, MalformedMessage } from "../internals.js";
import { Door } from "./door.js";
import { Joining } from "./joining.js";
import { Link } from "./link.js";
import {
  type Entrance,
  type Hello,
  MAX_JOIN_BYTES,
  MESSAGE,
  PROTOCOL_VERSION,
  readFailure,
  readHello,
  sendFailure,
  sendJson,
} from "./messages.js";
import type { Place } from "./place.js";
import { PROOF_MS } from "./proof.js";

/** What a proof at rank 0's address is for. */
export const RENDEZVOUS = "rendezvous";

/** Doors of groups that are made, by where they are: a new group of this process may need the place. */
const kept = new Map<string, Door>();

// The file of a Unix socket would outlive its process.
process.on("exit", () => {
  for (const door of kept.values()) door.close();
});

const keyOf = (place: Place): string => JSON.stringify(place);

/** Closes the door that an earlier group of this process has kept at a place. */
async function giveWay(place: Place): Promise<void> {
  const door = kept.get(keyOf(place));
  if (!door) return;
  kept.delete(keyOf(place));
  door.close();
  // The address is free in the next turn.
  await new Promise((resolve) => setImmediate(resolve));
}

/** Rank 0: waits for the others, tells them of one another, and says when all are connected. */
export class Host extends Joining {
  readonly #entrances: (Entrance | null)[] = new Array<Entrance | null>(this.options.size).fill(null);
  readonly #meshed = new Set<number>();
  #complete = false;
  #made: Group | undefined;

  async open(): Promise<void> {
    const { place, secret, size } = this.options;
    if (size === 1) {
      this.succeed();
      return;
    }
    try {
      await giveWay(place);
      const accept = (socket: Socket): void => this.#greet(new Link(socket, MAX_JOIN_BYTES));
      this.door = await Door.open(place, { secret, purpose: RENDEZVOUS, accept });
      if (this.over) this.door.close();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
      const why = code === "EADDRINUSE" ? ": another rank 0, or another program, listens there" : "";
      // Without the cause, whose message has the address.
      this.fail(
        new MoeA2AError(
          "ERR_MOE_A2A_ARGUMENT",
          `rank 0, joinProcessGroup(): cannot listen at the address (${code})${why}`,
          { argument: "address" },
        ),
      );
    }
  }

  /** Keeps the door, to tell who comes late, or again, that the group has no room for it. */
  protected override succeed(): void {
    super.succeed();
    void this.group.then((group) => {
      this.#made = group;
    });
    if (!this.door) return;
    this.door.unref();
    kept.set(keyOf(this.options.place), this.door);
  }

  protected override close(): void {
    super.close();
    const key = keyOf(this.options.place);
    if (kept.get(key) === this.door) kept.delete(key);
  }

  protected override missingRanks(): number[] {
    const others = [...this.links.keys()].slice(1);
    const absent = others.filter((rank) => !this.links[rank]);
    return absent.length > 0 ? absent : others.filter((rank) => !this.#meshed.has(rank));
  }

  /** Waits for the hello of a rank that has proved the secret. */
  #greet(link: Link): void {
    const cut = (): void => {
      const { aborted, reason } = this.signal;
      if (aborted && reason instanceof MoeA2AError) sendFailure(link, reason);
      else link.finish();
    };
    const timer = setTimeout(cut, PROOF_MS);
    const done = (): void => {
      clearTimeout(timer);
      this.signal.removeEventListener("abort", cut);
    };
    this.signal.addEventListener("abort", cut);
    link.listen({
      message: (type, body) => {
        if (type !== MESSAGE.hello) throw new MalformedMessage("no hello");
        const hello = readHello(body);
        done();
        this.#admit(hello, link);
      },
      ended: done,
    });
  }

  #admit(hello: Hello, link: Link): void {
    const { rank, entrance } = hello;
    if (this.over) {
      this.#turnAway(hello, link);
      return;
    }
    const refusal = this.#refusal(hello);
    if (refusal) {
      // All have to know: the rank that should be there instead will not come.
      sendFailure(link, refusal);
      this.fail(refusal);
      return;
    }
    // Lest the ranks that cannot connect to it blame one another.
    if (!entrance && rank < this.options.size - 1) throw new MalformedMessage("a hello without entrance");
    this.links[rank] = link;
    this.#entrances[rank] = entrance ?? null;
    link.listen({
      message: (type, body) => this.#message(rank, type, body),
      ended: () => this.#ended(rank),
    });
    this.#tellPresent();
    if (this.links.every((other, peer) => peer === 0 || other)) {
      this.#complete = true;
      this.#tell(MESSAGE.roster, this.#entrances);
    }
  }

  #refusal({ version, rank, size }: Hello): MoeA2AError | undefined {
    const mismatch = (field: string, mine: number, theirs: number): MoeA2AError => {
      const values = new Array<number | undefined>(rank + 1).fill(undefined);
      values[0] = mine;
      values[rank] = theirs;
      return new MoeA2AError(
        "ERR_MOE_A2A_MISMATCH",
        `joinProcessGroup(): rank 0 has ${field} ${mine}, rank ${rank} has ${theirs}; all ranks need the same`,
        { field, values },
      );
    };
    if (version !== PROTOCOL_VERSION) return mismatch("protocol version", PROTOCOL_VERSION, version);
    if (size !== this.options.size) return mismatch("size", this.options.size, size);
    if (rank !== 0 && !this.links[rank]) return undefined;
    return new MoeA2AError(
      "ERR_MOE_A2A_STATE",
      `joinProcessGroup(): two processes want to be rank ${rank} of this group; each rank joins once`,
      { state: "joined" },
    );
  }

  /** A group that is made takes nobody in. A rank that was lost has started again; others come for another group. */
  #turnAway({ rank }: Hello, link: Link): void {
    if (!this.#made || groupInternalsOf(this.#made)?.peerState(rank) !== "lost") {
      sendJson(link, MESSAGE.later, {});
      link.finish();
      return;
    }
    const refusal = new MoeA2AError(
      "ERR_MOE_A2A_STATE",
      `joinProcessGroup(): rank ${rank} of this group was lost, and a rank joins once; close the group on the ranks that ` +
        "remain, and make a new one of all ranks",
      { state: "lost" },
    );
    sendFailure(link, refusal);
  }

  #message(rank: number, type: number, body: Buffer): void {
    if (type === MESSAGE.failed) {
      this.fail(fromVerdict(readFailure(body), rank));
    } else if (type === MESSAGE.meshed && this.#complete) {
      this.#meshed.add(rank);
      if (this.#meshed.size < this.options.size - 1) return;
      this.#tell(MESSAGE.go, {});
      this.succeed();
    } else {
      throw new MalformedMessage("out of order");
    }
  }

  #ended(rank: number): void {
    if (this.over) return;
    this.links[rank] = undefined;
    // Until the others know of it, it may come again.
    if (this.#complete) this.fail(this.missing([rank], "lost"));
    else this.#tellPresent();
  }

  #tellPresent(): void {
    this.#tell(
      MESSAGE.present,
      [...this.links.keys()].filter((rank) => rank === 0 || this.links[rank]),
    );
  }

  #tell(type: number, value: unknown): void {
    for (const link of this.links) if (link) sendJson(link, type, value);
  }
}
