import { randomBytes } from "node:crypto";
import type { NetConnectOpts } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../frames/random.js";
import { GREETING_BYTES, MAGIC, Stranger } from "./secret.js";

const SCANS = [
  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  "SSH-2.0-scanner\r\n",
  "\0",
  "",
];

function flipped(bytes: Buffer, random: Random): Buffer {
  const copy = Buffer.from(bytes);
  copy[random.below(copy.length)]! ^= 1 << random.below(8);
  return copy;
}

/** A frame of a hello that no rank sends, for who knows the secret: anything else would be heard. */
function badHello(random: Random): Buffer {
  const hello = Buffer.from(JSON.stringify({ version: 1, rank: 1, size: 3 }));
  const header = Buffer.alloc(5, 1);
  header.writeUInt32BE(hello.length + 1);
  const frame = Buffer.concat([header, hello]);
  switch (random.below(5)) {
    case 0:
      frame.writeUInt32BE(random.word());
      return frame;
    case 1:
      return frame.subarray(0, random.below(frame.length));
    case 2:
      // No JSON any more.
      frame.fill(random.below(2) === 0 ? 0 : 0xff, 5 + random.below(4), frame.length);
      return frame;
    case 3:
      frame[4] = 2 + random.below(250);
      return frame;
    default:
      return randomBytes(1 + random.below(200));
  }
}

/** What a stranger does, by kind; those that send nothing more are left to be cut off. */
const KINDS: readonly ((door: NetConnectOpts, random: Random, recorded: Buffer) => Stranger)[] = [
  // Half-open, and gone at once.
  (door) => new Stranger(door),
  (door) => {
    const stranger = new Stranger(door);
    stranger.socket.once("connect", () => stranger.socket.destroy());
    return stranger;
  },
  (door, random) => writing(door, Buffer.from(random.pick(SCANS), "latin1")),
  (door, random) => writing(door, randomBytes(1 + random.below(300))),
  (door, random) => writing(door, flipped(Buffer.concat([MAGIC, randomBytes(32)]), random)),
  (door, random, recorded) => writing(door, flipped(recorded, random)),
  (door, _, recorded) => writing(door, recorded),
  (door, random, recorded) => writing(door, recorded.subarray(0, random.below(GREETING_BYTES + 32))),
  (door) => dripping(door),
  proving((right, random) => flipped(right, random)),
  proving((right, random) => Buffer.concat([flipped(right, random), randomBytes(200)])),
  proving(() => randomBytes(32)),
  proving(() => Buffer.alloc(32)),
  (door, random) => {
    const stranger = new Stranger(door);
    stranger.isMember = true;
    void stranger.prove().then((greeted) => greeted && stranger.socket.write(badHello(random)));
    return stranger;
  },
];

/** Greets a byte at a time: never done, and never quite idle. */
function dripping(door: NetConnectOpts): Stranger {
  const stranger = new Stranger(door);
  void (async () => {
    for (const byte of Buffer.concat([MAGIC, randomBytes(100)])) {
      if (stranger.socket.closed) return;
      stranger.socket.write(Buffer.of(byte));
      await sleep(20);
    }
  })();
  return stranger;
}

function writing(door: NetConnectOpts, bytes: Buffer): Stranger {
  const stranger = new Stranger(door);
  stranger.socket.write(bytes);
  return stranger;
}

function proving(spoil: (right: Buffer, random: Random) => Buffer) {
  return (door: NetConnectOpts, random: Random): Stranger => {
    const stranger = new Stranger(door);
    void stranger.prove((right) => spoil(right, random));
    return stranger;
  };
}

/** A stranger of any kind. @param recorded what a rank has sent in another joining, its proof first */
export function intrude(door: NetConnectOpts, random: Random, recorded: Buffer): Stranger {
  return random.pick(KINDS)(door, random, recorded);
}
