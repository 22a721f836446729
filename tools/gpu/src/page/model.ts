/**
 * Rows that a token sends to other ranks, with random routing: of R ranks with E / R experts each it misses one with
 * C(E − E/R, K) / C(E, K).
 */
export function rowsSentTo(ranks: number, topK: number, experts: number): number {
  let misses = 1;
  for (let k = 0; k < topK; k++) misses *= (experts - experts / ranks - k) / (experts - k);
  return (ranks - 1) * (1 - misses);
}
