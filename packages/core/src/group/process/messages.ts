import type { MoeA2AError } from "../../errors.js";
import { readVerdict, toVerdict, type Verdict } from "../../verdict.js";
import type { GroupMessage, Series } from "../gathering.js";
import { MalformedMessage } from "../internals.js";
import type { Link } from "./link.js";
import type { Place } from "./place.js";

/** Changes with whatever two ranks have to understand in the same way. */
export const PROTOCOL_VERSION = 1;

/** What two ranks tell one another, by the number that stands in its frames. */
export const MESSAGE = {
  /** Who connects: {@link Hello}. */
  hello: 1,
  /** Rank 0: the ranks that are there, as numbers. */
  present: 2,
  /** Rank 0: the doors of all ranks, {@link Entrance} or null by rank. */
  roster: 3,
  /** To rank 0: this rank is connected to all. */
  meshed: 4,
  /** Rank 0: all are. */
  go: 5,
  /** The group cannot be made: a verdict. */
  failed: 6,
  /** A value for a key: the key's length in 4 bytes, the key, the value. */
  put: 7,
  /** A key cannot be completed: the key and a verdict. */
  fail: 8,
  /** A value for a key of the library's own, and its series, as JSON. */
  meet: 9,
  /** The sender has left something that others may gather for. */
  gone: 10,
  /** Rank 0 of a group that is made: come again, another group may be made here. */
  later: 12,
  /** For an instance: its number in 4 bytes, what kind of message, its body. */
  instance: 11,
} as const;

/** The most bytes of a message while the group is being made. */
export const MAX_JOIN_BYTES = 2 ** 16;
/** The most bytes of a value, and of its key. */
export const MAX_VALUE_BYTES = 2 ** 30;
export const MAX_KEY_BYTES = 2 ** 16;
export const MAX_GROUP_BYTES = 4 + MAX_KEY_BYTES + MAX_VALUE_BYTES;

/** Where a rank lets in the ranks above it, and the purpose that their proof names. */
export interface Entrance {
  readonly place: Place;
  readonly purpose: string;
}

export interface Hello {
  readonly version: number;
  readonly rank: number;
  readonly size: number;
  /** Missing on connections between ranks other than 0. */
  readonly entrance?: Entrance;
}

/** Sends a value as JSON. */
export function sendJson(link: Link, type: number, value: unknown): void {
  link.send(type, Buffer.from(JSON.stringify(value)));
}

/** Tells the other end why the group cannot be made, and hangs up. */
export function sendFailure(link: Link, error: MoeA2AError): void {
  sendJson(link, MESSAGE.failed, toVerdict(error));
  link.finish();
}

function readJson(body: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(body).toString());
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {}
  throw new MalformedMessage("no JSON object");
}

const isCount = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;

function isEntrance(value: unknown): value is Entrance {
  const { place, purpose } = (value ?? {}) as Partial<Entrance>;
  const { host, port, path } = (place ?? {}) as Partial<Record<"host" | "port" | "path", unknown>>;
  return (
    typeof purpose === "string" && (typeof path === "string" || (typeof host === "string" && isCount(port)))
  );
}

export function readHello(body: Uint8Array): Hello {
  const { version, rank, size, entrance } = readJson(body);
  // Another version may say anything else.
  if (!isCount(version)) throw new MalformedMessage("a hello without version");
  const known = isCount(rank) && isCount(size) && rank < size && size <= 2 ** 16;
  if (!known) throw new MalformedMessage("a hello without rank and size");
  return { version, rank, size, ...(isEntrance(entrance) ? { entrance } : {}) };
}

export function readPresent(body: Uint8Array): number[] {
  const ranks: unknown = readJson(body);
  if (!Array.isArray(ranks) || !ranks.every(isCount)) throw new MalformedMessage("no list of ranks");
  return ranks;
}

export function readRoster(body: Uint8Array): (Entrance | null)[] {
  const roster: unknown = readJson(body);
  if (!Array.isArray(roster) || !roster.every((e) => e === null || isEntrance(e))) {
    throw new MalformedMessage("no roster");
  }
  return roster;
}

function verdictOf(value: unknown): Verdict {
  const verdict = readVerdict(value);
  if (!verdict) throw new MalformedMessage("no verdict");
  return verdict;
}

function seriesOf(value: unknown): Series | undefined {
  if (value === undefined) return undefined;
  const { name, number } = (value ?? {}) as Partial<Series>;
  if (typeof name !== "string" || !isCount(number)) throw new MalformedMessage("no series");
  return { name, number };
}

export function readFailure(body: Uint8Array): Verdict {
  return verdictOf(readJson(body));
}

/** Sends what a rendezvous posts. */
export function sendGroupMessage(link: Link, message: GroupMessage): void {
  switch (message.kind) {
    case "put":
      if (message.value instanceof Uint8Array) sendBytes(link, message.key, message.value);
      else {
        const { key, value = null, series } = message;
        sendJson(link, MESSAGE.meet, { key, value, ...(series && { series }) });
      }
      break;
    case "fail":
      sendJson(link, MESSAGE.fail, { key: message.key, verdict: message.verdict });
      break;
    case "gone":
      link.send(MESSAGE.gone);
      break;
    case "hello":
      // Nobody joins late.
      break;
  }
}

function sendBytes(link: Link, key: string, value: Uint8Array): void {
  const bytes = Buffer.from(key);
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(bytes.length);
  link.send(MESSAGE.put, Buffer.concat([length, bytes]), value);
}

/** What a rendezvous receives, from rank `from`. */
export function readGroupMessage(type: number, body: Buffer, from: number): GroupMessage {
  if (type === MESSAGE.put) {
    if (body.length < 4) throw new MalformedMessage("a value without key");
    const keyBytes = body.readUInt32BE(0);
    const end = 4 + keyBytes;
    if (keyBytes > MAX_KEY_BYTES || end > body.length) throw new MalformedMessage("a key that is cut off");
    const key = body.toString("utf8", 4, end);
    return { kind: "put", from, key, value: body.subarray(end), series: undefined };
  }
  if (type === MESSAGE.fail) {
    const { key, verdict } = readJson(body);
    if (typeof key !== "string") throw new MalformedMessage("a failure without key");
    return { kind: "fail", from, key, verdict: verdictOf(verdict) };
  }
  if (type === MESSAGE.meet) {
    const { key, value, series } = readJson(body);
    if (typeof key !== "string") throw new MalformedMessage("a value without key");
    return { kind: "put", from, key, value, series: seriesOf(series) };
  }
  if (type === MESSAGE.gone) return { kind: "gone", from };
  throw new MalformedMessage("a message of no known type");
}
