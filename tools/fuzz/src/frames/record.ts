import { mkdtempSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { joinProcessGroup } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { CONFIG, SIZE } from "./config.js";
import { dispatchOn, exactRound, finish } from "./rounds.js";

/** Bytes of the proof that come before the frames: greeting and proof, and at the listening end an answer of one byte. */
const PROOF_BYTES = { connecting: 72, listening: 73 };
const MAGIC = Buffer.from("moe-a2a\n");
const HEADER_BYTES = 5;
/** Frames of the joining; the others belong to the group. */
const LAST_JOIN_TYPE = 6;

/** What one end of a connection has sent. */
export interface Recording {
  /** With the proof. */
  readonly bytes: Buffer;
  /** Of the joining, then of the group. */
  readonly joining: readonly Buffer[];
  readonly frames: readonly Buffer[];
}

function splitFrames(bytes: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at);
    frames.push(bytes.subarray(at, end));
    at = end;
  }
  return frames;
}

function recordingOf(bytes: Buffer): Recording | undefined {
  if (bytes.length < 80 || !bytes.subarray(0, 8).equals(MAGIC)) return undefined;
  // The connecting end goes on with a hello, the other has answered first.
  const isHello =
    bytes[PROOF_BYTES.connecting + 4] === 1 && bytes.readUInt32BE(PROOF_BYTES.connecting) < 2 ** 16;
  const start = isHello ? PROOF_BYTES.connecting : PROOF_BYTES.listening;
  const all = splitFrames(bytes.subarray(start));
  const isJoining = (frame: Buffer): boolean => frame[4]! <= LAST_JOIN_TYPE;
  return { bytes, joining: all.filter(isJoining), frames: all.filter((frame) => !isJoining(frame)) };
}

/** Joins ranks over real sockets, plays all kinds of rounds, and keeps what went over the connections, both ways. */
export async function record(): Promise<Recording[]> {
  const written = new Map<Socket, Buffer[]>();
  const write = Socket.prototype.write;
  Socket.prototype.write = function (this: Socket, chunk: Uint8Array, ...rest: never[]) {
    const chunks = written.get(this) ?? [];
    written.set(this, chunks);
    chunks.push(Buffer.from(chunk));
    return write.call(this, chunk, ...rest);
  } as typeof write;
  try {
    await play();
  } finally {
    Socket.prototype.write = write;
  }
  return [...written.values()]
    .map((chunks) => recordingOf(Buffer.concat(chunks)))
    .filter((recording) => recording !== undefined);
}

async function play(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "moe-a2a-fuzz-"));
  const options = { size: SIZE, address: `unix:${folder}/group`, secret: "a secret of the fuzzer, 32 bytes" };
  const groups = await Promise.all([0, 1, 2].map((rank) => joinProcessGroup({ ...options, rank })));
  const a2as = await Promise.all(groups.map((group) => jsBackend.create(CONFIG, group)));
  await Promise.all(groups.map((group) => group.exchange("key", Buffer.from(`value of ${group.rank}`))));
  for (const to of [0, 1, 2]) await finish(a2as.map((a2a) => dispatchOn(a2a, to, { stats: to !== 1 })));
  // Both lanes at once.
  const lanes = ([0, 1] as const).map((lane) => a2as.map((a2a) => dispatchOn(a2a, 1, { lane })));
  await Promise.all(lanes.map((rounds) => finish(rounds)));
  a2as[1]!.abort("recorded");
  await Promise.allSettled(a2as.map(async (a2a) => dispatchOn(a2a, 2).ready()));
  await Promise.all(a2as.map((a2a) => a2a.reset()));
  await exactRound(a2as);
  // One is left out, and comes back.
  const two = { activeRanks: [0, 1] };
  await Promise.all([0, 1].map((rank) => a2as[rank]!.reset(two)));
  await exactRound(a2as.slice(0, 2));
  await Promise.all(a2as.map((a2a) => a2a.reset({ activeRanks: [0, 1, 2] })));
  await exactRound(a2as);
  await Promise.allSettled([groups[0]!.exchange("late", Buffer.alloc(3), { timeoutMs: 20 })]);
  await Promise.all(a2as.map((a2a) => a2a.close()));
  await Promise.all(groups.map((group) => group.close()));
  rmSync(folder, { recursive: true, force: true });
}
