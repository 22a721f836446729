import type { Random } from "./random.js";

const WORDS = [0, 1, 2, 3, 4, 5, 16, 40, 255, 65_535, 2 ** 20, 2 ** 20 + 1, 2 ** 31 - 1, -1, -2, -(2 ** 31)];

/** How frames are spoiled; those that leave lengths alone more often, as a link that has ended takes no more. */
const WAYS: readonly ((frames: Buffer[], at: number, random: Random, other: readonly Buffer[]) => void)[] = [
  flipBody,
  flipBody,
  setWord,
  setWord,
  setWord,
  setWord,
  (frames, at) => void frames.splice(at, 1),
  (frames, at) => void frames.splice(at, 0, frames[at]!),
  swap,
  swap,
  splice,
  splice,
  flipAnything,
  cut,
  append,
  craft,
  craft,
  craft,
  craft,
  more,
  setLength,
  resize,
  split,
];

function copied(frames: Buffer[], at: number): Buffer {
  const frame = Buffer.from(frames[at]!);
  frames[at] = frame;
  return frame;
}

function flipBody(frames: Buffer[], at: number, random: Random): void {
  const frame = copied(frames, at);
  if (frame.length > 5) frame[5 + random.below(frame.length - 5)]! ^= 1 << random.below(8);
}

function flipAnything(frames: Buffer[], at: number, random: Random): void {
  const frame = copied(frames, at);
  if (frame.length > 0) frame[random.below(frame.length)]! ^= 1 << random.below(8);
}

/** Words of an instance's messages stand behind the frame's head, the instance's number and the kind. */
function setWord(frames: Buffer[], at: number, random: Random): void {
  const frame = copied(frames, at);
  const words = Math.floor((frame.length - 10) / 4);
  if (words > 0) frame.writeInt32LE(random.pick(WORDS), 10 + 4 * random.below(Math.min(words, 12)));
  // What was announced comes, too.
  if (random.below(3) === 0) more(frames, at, random);
}

function swap(frames: Buffer[], at: number, random: Random): void {
  const other = random.below(frames.length);
  [frames[at], frames[other]] = [frames[other]!, frames[at]!];
}

function cut(frames: Buffer[], at: number, random: Random): void {
  frames[at] = frames[at]!.subarray(0, random.below(frames[at]!.length));
}

function append(frames: Buffer[], at: number, random: Random): void {
  frames[at] = Buffer.concat([frames[at]!, Buffer.alloc(random.below(9), 7)]);
}

/** Goes on as another recording does. */
function splice(frames: Buffer[], at: number, random: Random, other: readonly Buffer[]): void {
  frames.splice(
    at,
    random.below(4),
    ...other.slice(random.below(other.length)).slice(0, 1 + random.below(8)),
  );
}

function setLength(frames: Buffer[], at: number, random: Random): void {
  const frame = copied(frames, at);
  if (frame.length >= 4) frame.writeInt32BE(random.pick(WORDS) | 0, 0);
}

/** Another length, and as many bytes: only what they mean is wrong. */
function resize(frames: Buffer[], at: number, random: Random): void {
  const frame = frames[at]!;
  if (frame.length < 6) return;
  const bytes = 5 + random.below(random.below(20) === 0 ? 2 ** 16 : 2 * frame.length);
  const resized = Buffer.alloc(bytes);
  frame.copy(resized);
  resized.writeUInt32BE(bytes - 4, 0);
  frames[at] = resized;
}

/** Rows of what was begun last in a lane, as ranks send them where they are too many for one message. */
function more(frames: Buffer[], at: number, random: Random): void {
  const rows = random.below(2) === 0 ? 8000 : random.below(200);
  const frame = Buffer.alloc(14 + rows, 0xa5);
  frame.writeUInt32BE(frame.length - 4, 0);
  // An instance's message, for instance 0, of the kind that carries rows, for a lane.
  frame.set([11, 0, 0, 0, 0, 3, random.below(2), 0, 0, 0], 4);
  frames.splice(at + 1, 0, frame);
}

/** A dispatch or a combine as a rank might send it, with one word that none sends, and rows for it. */
function craft(frames: Buffer[], anywhere: number, random: Random): void {
  // A round that has been begun is not begun again.
  const at = random.below(2) === 0 ? 0 : anywhere;
  const round = random.below(2);
  const lane = random.below(2);
  const isDispatch = random.below(2) === 0;
  const count = random.below(3);
  const words = isDispatch ? [lane, 0, round, 2, 3, count, 2, 16, 8] : [lane, 0, round, 4, 0, count];
  words[random.below(words.length)] = random.pick(WORDS);
  const frame = Buffer.alloc(10 + 4 * words.length + random.below(2) * random.below(100), 0x5a);
  frame.writeUInt32BE(frame.length - 4, 0);
  frame.set([11, 0, 0, 0, 0, isDispatch ? 1 : 2], 4);
  for (const [i, word] of words.entries()) frame.writeInt32LE(word | 0, 10 + 4 * i);
  frames.splice(at, 0, frame);
  if (random.below(2) === 0) more(frames, at, random);
}

/** One message in two frames. */
function split(frames: Buffer[], at: number, random: Random): void {
  const frame = frames[at]!;
  if (frame.length < 7) return;
  const cut = 6 + random.below(frame.length - 6);
  const head = Buffer.from(frame.subarray(0, cut));
  head.writeUInt32BE(cut - 4, 0);
  head[4]! |= 0x80;
  const tail = Buffer.concat([frame.subarray(0, 5), frame.subarray(cut)]);
  tail.writeUInt32BE(tail.length - 4, 0);
  frames.splice(at, 1, head, tail);
}

/** A stretch of one recording, spoiled in some places, with bits of another. */
export function mutate(random: Random, recordings: readonly (readonly Buffer[])[]): Buffer[] {
  const source = random.pick(recordings);
  const other = random.pick(recordings);
  // Mostly from the start, as what comes later means little without it.
  const start = random.below(3) === 0 ? random.below(source.length) : 0;
  const frames = source.slice(start, start + 4 + random.below(60));
  const times = random.below(4) === 0 ? 1 + random.below(12) : 1 + random.below(3);
  for (let i = 0; i < times && frames.length > 0; i++) {
    random.pick(WAYS)(frames, random.below(frames.length), random, other);
  }
  return frames;
}
