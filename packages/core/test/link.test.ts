import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { groupInternalsOf, MalformedMessage } from "../src/group/internals.js";
import { Link } from "../src/group/process/link.js";
import { ProcessGroup } from "../src/group/process/process-group.js";

const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** Two ends of a connection. */
async function ends(): Promise<[Socket, Socket]> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const near = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [[far]] = (await Promise.all([once(server, "connection"), once(near, "connect")])) as [
    [Socket],
    unknown,
  ];
  server.close();
  for (const socket of [near, far]) sockets.push(socket.on("error", () => {}));
  return [near, far];
}

function frame(type: number, body: Buffer | object): Buffer {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  const header = Buffer.alloc(5, type);
  header.writeUInt32BE(bytes.length + 1);
  return Buffer.concat([header, bytes]);
}

const CHUNK = 2 ** 18;

describe("a link", () => {
  it("fills messages in when the peer can take them, in order, and keeps none that were sent", async () => {
    const [near, far] = await ends();
    const link = new Link(near, 2 ** 20);
    const filled: number[] = [];
    let sent = 0;
    const messages = Array.from({ length: 100 }, (_, i) => {
      const fill = (body: Buffer): void => {
        filled.push(i);
        body.fill(i);
      };
      return link.sendLazily(1, CHUNK, fill, () => sent++);
    });
    await sleep(50);
    // The peer reads nothing so far.
    expect(filled.length).toBeLessThan(100);
    const atOnce = filled.length;
    messages[99]!.fillNow();
    expect(filled).toHaveLength(atOnce + 1);
    let bytes = 0;
    far.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    for (let i = 0; i < 500 && bytes < 100 * (CHUNK + 5); i++) await sleep(10);
    expect([bytes, sent, filled.length]).toEqual([100 * (CHUNK + 5), 100, 100]);
    // Sent ones have no bytes to be filled in again.
    for (const message of messages) message.fillNow();
    expect(filled).toHaveLength(100);
  });

  it("lets go of what it will not send any more, and calls nobody for it", async () => {
    const [near, far] = await ends();
    const link = new Link(near, 2 ** 20);
    const ended = new Promise((resolve) => link.listen({ message: () => {}, ended: resolve }));
    let filled = 0;
    let sent = 0;
    const send = () =>
      link.sendLazily(
        1,
        CHUNK,
        () => filled++,
        () => sent++,
      );
    const messages = Array.from({ length: 100 }, send);
    await sleep(50);
    far.destroy();
    expect(await ended).toBe(false);
    const [before, beforeSent] = [filled, sent];
    expect(before).toBeLessThan(100);
    messages.push(send());
    for (const message of messages) message.fillNow();
    await sleep(20);
    expect([filled, sent]).toEqual([before, beforeSent]);
  });

  it("reads from nobody's memory after close()", async () => {
    const [near, far] = await ends();
    const link = new Link(near, 2 ** 20);
    let closed = false;
    let late = 0;
    for (let i = 0; i < 100; i++) {
      link.sendLazily(1, CHUNK, () => {
        if (closed) late++;
      });
    }
    link.close();
    closed = true;
    let bytes = 0;
    far.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    await once(far, "end");
    expect([bytes, late]).toEqual([100 * (CHUNK + 5) + 5, 0]);
  });
});

describe("a process group", () => {
  const verdict = (change: object = {}, details: object = {}) => ({
    code: "ERR_MOE_A2A_STATE",
    message: "",
    details: { state: "closed", ...details },
    ...change,
  });
  const keyOf = (bytes: number): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes);
    return length;
  };

  async function groupAndPeer(): Promise<[ProcessGroup, Socket]> {
    const [near, far] = await ends();
    return [new ProcessGroup(0, [undefined, new Link(near, 2 ** 16)], () => {}), far];
  }

  it.each<[string, Buffer]>([
    ["a value without key", frame(7, Buffer.alloc(3))],
    ["a key that is cut off", frame(7, Buffer.concat([keyOf(9), Buffer.from("exchange")]))],
    ["a key that is too long", frame(7, Buffer.concat([keyOf(2 ** 16 + 1), Buffer.alloc(2 ** 17, "k")]))],
    ["a number where bytes are gathered", frame(9, { key: "exchange:k#0", value: 2 ** 40 })],
    ["nothing where bytes are gathered", frame(9, { key: "exchange:k#0", value: null })],
    [
      "a value without a series that is one",
      frame(9, { key: "a", value: 1, series: { name: 1, number: 0 } }),
    ],
    ["a failure of no key", frame(8, { key: 3, verdict: verdict() })],
    ["a failure without verdict", frame(8, { key: "exchange:k#0" })],
    [
      "a verdict of no known code",
      frame(8, { key: "exchange:k#0", verdict: verdict({ code: "ERR_MOE_A2A_NONE" }) }),
    ],
    ["a verdict without its details", frame(8, { key: "exchange:k#0", verdict: verdict({ details: {} }) })],
    ["an instance's message without instance", frame(11, Buffer.alloc(4))],
    ["no JSON", frame(9, Buffer.from("["))],
    ["a type that is none", frame(77, Buffer.alloc(0))],
  ])("loses a peer that sends %s", async (_, bytes) => {
    const [group, peer] = await groupAndPeer();
    const waiting = expect(group.exchange("k", Uint8Array.of(1))).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      kind: "lost",
      missingRanks: [1],
    });
    peer.write(bytes);
    await waiting;
    await group.close();
  });

  it("takes of a verdict what belongs to it", async () => {
    const [group, peer] = await groupAndPeer();
    const waiting = group.exchange("k", Uint8Array.of(1)).catch((error: unknown) => error);
    const foreign = JSON.parse('{"name":"x","stack":1,"code":2,"__proto__":{"state":"none"}}') as object;
    peer.write(frame(8, { key: "exchange:k#0", verdict: verdict({ message: "left" }, foreign) }));
    const error = (await waiting) as Error;
    expect(error).toMatchObject({ code: "ERR_MOE_A2A_STATE", state: "closed", name: "MoeA2AError" });
    expect(error.message).toBe("left (as rank 1 found)");
    expect(typeof error.stack).toBe("string");
    await group.close();
  });

  it("ends the link of early messages that its listener refuses, and tells of it once", async () => {
    const [group, peer] = await groupAndPeer();
    const { openChannel, peerState } = groupInternalsOf(group)!;
    const channel = openChannel!(0);
    const instance = (type: number): Buffer => frame(11, Buffer.concat([keyOf(0), Buffer.of(type)]));
    peer.write(Buffer.concat([instance(1), instance(2), instance(3)]));
    await sleep(50);
    const heard: number[] = [];
    channel.listen((_, type) => {
      heard.push(type);
      if (type === 2) throw new MalformedMessage("two");
    });
    expect([heard, peerState(1)]).toEqual([[1, 2], "lost"]);
    await group.close();
  });
});
