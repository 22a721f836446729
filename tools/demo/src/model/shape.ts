/** Sizes of the model. */
export interface ModelShape {
  readonly layers: number;
  readonly hidden: number;
  /** Heads of the token mixer; each has `hidden / heads` keys and values. */
  readonly heads: number;
  readonly experts: number;
  readonly topK: number;
  /** Inner width of an expert. */
  readonly intermediate: number;
}

/** Sizes that the command line does not set. */
export const FIXED_SHAPE = { hidden: 64, heads: 4, intermediate: 128 } as const;
