import type { Socket } from "node:net";
import { MoeA2AError } from "../../errors.js";
import { fromVerdict } from "../../verdict.js";
import { MalformedMessage } from "../internals.js";
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
import { PROOF_MS } from "./proof.js";

/** What a proof at rank 0's address is for. */
export const RENDEZVOUS = "rendezvous";

/** Rank 0: waits for the others, tells them of one another, and says when all are connected. */
export class Host extends Joining {
  readonly #entrances: (Entrance | null)[] = new Array<Entrance | null>(this.options.size).fill(null);
  readonly #meshed = new Set<number>();
  #complete = false;

  async open(): Promise<void> {
    const { place, secret, size } = this.options;
    if (size === 1) {
      this.succeed();
      return;
    }
    try {
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

  protected override missingRanks(): number[] {
    const others = [...this.links.keys()].slice(1);
    const absent = others.filter((rank) => !this.links[rank]);
    return absent.length > 0 ? absent : others.filter((rank) => !this.#meshed.has(rank));
  }

  /** Waits for the hello of a rank that has proved the secret. */
  #greet(link: Link): void {
    const cut = (): void => link.finish();
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
    const refusal = this.#refusal(hello);
    if (refusal) {
      // All have to know: the rank that should be there instead will not come.
      sendFailure(link, refusal);
      this.fail(refusal);
      return;
    }
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
