/** The part of a round number that goes over the wire. */
export function wireRound(round: number): number {
  return round | 0;
}

/** Whether a flag says that its rank has reached `round`: an order that wraps safely, since no rank is far ahead. */
export function hasReached(flag: number, round: number): boolean {
  return ((flag - round) | 0) >= 0;
}

/** Which copy of double-buffered regions a round uses: a peer one phase ahead writes the other. */
export function bufferOf(round: number): number {
  return round & 1;
}
