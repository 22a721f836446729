/** Shorter copies are faster byte by byte than through a view of the source. */
const LOOP_BYTES = 48;

/** Copies `bytes` bytes; source and destination must not overlap. */
export function copyBytes(
  target: Uint8Array,
  targetOffset: number,
  source: Uint8Array,
  sourceOffset: number,
  bytes: number,
): void {
  if (bytes > LOOP_BYTES) {
    target.set(source.subarray(sourceOffset, sourceOffset + bytes), targetOffset);
    return;
  }
  for (let i = 0; i < bytes; i++) target[targetOffset + i] = source[sourceOffset + i]!;
}
