import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isMoeA2AError, MoeA2AError } from "../../errors.js";
import { fromVerdict } from "../../verdict.js";
import { MalformedMessage } from "../internals.js";
import { enter, openOwnDoor } from "./door.js";
import { RENDEZVOUS } from "./host.js";
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
  readPresent,
  readRoster,
  sendJson,
} from "./messages.js";
import { SecretRefused } from "./proof.js";

/** Milliseconds after which a rank comes again, where rank 0 has an earlier group. */
const AGAIN_MS = 100;

/** A rank other than 0: reports to rank 0, lets in the ranks above it, and goes to those below. */
export class Guest extends Joining {
  /** The ranks that rank 0 knew last. */
  #present: readonly number[] = [];
  #roster = false;
  /** Where this rank lets in the ranks above it. */
  #entrance: Entrance | undefined;

  async open(): Promise<void> {
    try {
      await this.#report();
    } catch (error) {
      this.#giveUp(error, 0);
    }
  }

  /** Goes to rank 0 and says where this rank lets others in. */
  async #report(): Promise<void> {
    const { place, secret, rank, size } = this.options;
    const toRankZero = await enter(place, { secret, purpose: RENDEZVOUS, signal: this.signal });
    try {
      // The last rank lets nobody in.
      if (rank < size - 1 && !this.#entrance) {
        const purpose = `rank ${rank} ${randomBytes(16).toString("hex")}`;
        const accept = (socket: Socket): void => this.#greet(new Link(socket, MAX_JOIN_BYTES));
        const own = await openOwnDoor(place, { rank, toRankZero, secret, purpose, accept });
        this.door = own.door;
        this.#entrance = { place: own.place, purpose };
      }
    } catch (error) {
      toRankZero.destroy();
      throw error;
    }
    if (this.over) {
      this.door?.close();
      toRankZero.destroy();
      return;
    }
    const link = new Link(toRankZero, MAX_JOIN_BYTES);
    this.links[0] = link;
    link.listen({
      message: (type, body) => this.#message(type, body),
      ended: () => this.fail(this.missing([0], "lost")),
    });
    this.#hello(link, this.#entrance);
  }

  /** Rank 0 is there with an earlier group. */
  #comeAgain(): void {
    this.links[0]?.finish();
    this.links[0] = undefined;
    sleep(AGAIN_MS, undefined, { signal: this.signal })
      .then(() => this.#report())
      .catch((error: unknown) => this.#giveUp(error, 0));
  }

  /** The ranks above this one have all come. */
  protected override succeed(): void {
    this.door?.close();
    super.succeed();
  }

  protected override missingRanks(): number[] {
    if (!this.links[0]) return [0];
    const others = [...this.links.keys()].filter((rank) => rank !== this.options.rank);
    const absent = others.filter((rank) => !this.#present.includes(rank));
    if (!this.#roster && absent.length > 0) return absent;
    const unlinked = others.filter((rank) => !this.links[rank]);
    return unlinked.length > 0 ? unlinked : [0];
  }

  #hello(link: Link, entrance?: Entrance): void {
    const { rank, size } = this.options;
    sendJson(link, MESSAGE.hello, {
      version: PROTOCOL_VERSION,
      rank,
      size,
      ...(entrance && { entrance }),
    } satisfies Hello);
  }

  #message(type: number, body: Buffer): void {
    if (type === MESSAGE.failed) this.fail(fromVerdict(readFailure(body), 0));
    else if (type === MESSAGE.later && !this.#roster) this.#comeAgain();
    else if (type === MESSAGE.present) this.#present = readPresent(body);
    else if (type === MESSAGE.roster && !this.#roster) this.#visit(readRoster(body));
    else if (type === MESSAGE.go && this.#roster && this.links.every((l, r) => l || r === this.options.rank))
      this.succeed();
    else throw new MalformedMessage("out of order");
  }

  /** Goes to the ranks below this one, all at once. */
  #visit(roster: readonly (Entrance | null)[]): void {
    this.#roster = true;
    for (let peer = 1; peer < this.options.rank; peer++) {
      const entrance = roster[peer];
      if (!entrance) throw new MalformedMessage("a rank without a door");
      enter(entrance.place, {
        secret: this.options.secret,
        purpose: entrance.purpose,
        signal: this.signal,
      }).then(
        (socket) => {
          if (this.over) {
            socket.destroy();
            return;
          }
          const link = new Link(socket, MAX_JOIN_BYTES);
          this.#hello(link);
          this.#connected(peer, link);
        },
        (error: unknown) => this.#giveUp(error, peer),
      );
    }
    this.#tellMeshed();
  }

  /** Waits for the hello of a rank above. */
  #greet(link: Link): void {
    const cut = (): void => link.finish();
    const done = (): void => this.signal.removeEventListener("abort", cut);
    this.signal.addEventListener("abort", cut);
    link.listen({
      message: (type, body) => {
        const { rank, size, version } = type === MESSAGE.hello ? readHello(body) : {};
        if (
          rank === undefined ||
          rank <= this.options.rank ||
          size !== this.options.size ||
          this.links[rank]
        ) {
          throw new MalformedMessage("not a rank that comes here");
        }
        if (version !== PROTOCOL_VERSION) throw new MalformedMessage("another version");
        done();
        this.#connected(rank, link);
      },
      ended: done,
    });
  }

  #connected(peer: number, link: Link): void {
    // What the peer sends next is for the group.
    link.listen(undefined);
    this.links[peer] = link;
    this.#tellMeshed();
  }

  #tellMeshed(): void {
    const all = this.links.every((link, rank) => link || rank === this.options.rank);
    if (all && this.#roster) this.links[0]?.send(MESSAGE.meshed);
  }

  #giveUp(error: unknown, peer: number): void {
    const { rank } = this.options;
    if (error instanceof SecretRefused) {
      this.fail(
        new MoeA2AError(
          "ERR_MOE_A2A_ARGUMENT",
          `rank ${rank}, joinProcessGroup(): rank ${peer} has another secret; all ranks need the same`,
          { argument: "secret" },
        ),
      );
    } else if (isMoeA2AError(error)) {
      this.fail(error);
    } else {
      const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
      this.fail(
        new MoeA2AError(
          "ERR_MOE_A2A_ARGUMENT",
          `rank ${rank}, joinProcessGroup(): no socket for other ranks (${code})`,
          { argument: "address" },
        ),
      );
    }
  }
}
