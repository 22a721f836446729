/** The ranks that work together. `exchange` and everything built on it are collectives: each rank calls, in its order. */
export interface Group {
  readonly rank: number;
  readonly size: number;
  /**
   * All-gathers `value` by rank. The n-th call with a key on one rank meets the n-th call with that key on the others.
   *
   * @returns each rank's bytes, by rank
   * @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT naming the ranks that did not call in `timeoutMs` (default 30 000),
   * closed or were lost; every rank of the exchange then fails with that verdict
   * @throws (rejects) ERR_MOE_A2A_STATE after `close()`
   */
  exchange(
    key: string,
    value: Uint8Array,
    options?: { readonly timeoutMs?: number },
  ): Promise<readonly Uint8Array[]>;
  /** Leaves the group; peers that wait for this rank are told at once. Idempotent. */
  close(): Promise<void>;
}
