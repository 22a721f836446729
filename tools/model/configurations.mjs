/**
 * The worlds that Spin searches through. `set` gives parameters of promela/world.pml; what is not set has its default
 * there. Many small worlds rather than few large ones: each asks one question. Those that are `large` all the same are
 * worth a verifier that the compiler optimizes.
 */
export const configurations = [
  { name: "two-ranks", set: { N: 2 } },
  { name: "three-ranks", set: { N: 3 } },
  { name: "empty-rounds", set: { N: 2, ROUNDS: 5, SLOTS: 1 } },
  { name: "empty-rounds-3", set: { N: 3, ROUNDS: 3, SLOTS: 1, TOKENS: 3 } },
  { name: "three-bits", large: true, set: { N: 2, ROUNDS: 8, SLOTS: 1, BITS: 3, FIRST: 6, TOKENS: 3 } },
  { name: "two-lanes", set: { N: 2, LANES: 2, TOKENS: 3 } },
  { name: "two-lanes-3", large: true, set: { N: 3, LANES: 2, ROUNDS: 1, TOKENS: 2 } },

  { name: "stream-order", set: { N: 2, STREAM_ORDER: 1, ROUNDS: 5, SLOTS: 1 } },
  { name: "stream-order-3", set: { N: 3, STREAM_ORDER: 1, SLOTS: 1 } },
  { name: "stream-order-late", large: true, set: { N: 3, STREAM_ORDER: 1, TIME_LIMITS: 3 } },
  { name: "stream-order-reset", set: { N: 3, STREAM_ORDER: 1, RESET: 1, ABORTS: 1, ROUNDS: 1, TOKENS: 1 } },
  { name: "stream-order-zombie", set: { N: 2, STREAM_ORDER: 1, RESET: 2, TIME_LIMITS: 3 } },

  { name: "packets", set: { N: 2, PACKETS: 1, ROUNDS: 5, SLOTS: 2 } },
  { name: "packets-empty", set: { N: 2, PACKETS: 1, ROUNDS: 5, SLOTS: 1 } },
  { name: "packets-3", large: true, set: { N: 3, PACKETS: 1, SLOTS: 2 } },
  { name: "packets-stream", set: { N: 2, PACKETS: 1, STREAM_ORDER: 1, ROUNDS: 4, SLOTS: 1 } },
  { name: "packets-disagree", set: { N: 3, PACKETS: 1, DISAGREE: 1, ROUNDS: 1 } },
  { name: "packets-crash", set: { N: 3, PACKETS: 1, CRASH: 2, TOKENS: 1 } },
  { name: "packets-late", set: { N: 3, PACKETS: 1, TIME_LIMITS: 7, TOKENS: 1 } },
  { name: "packets-reset", set: { N: 2, PACKETS: 1, RESET: 1, ABORTS: 1, MORE: 4 } },

  { name: "disagree-slots", set: { N: 3, DISAGREE: 1, ROUNDS: 1 } },
  { name: "disagree-lanes", set: { N: 2, LANES: 2, DISAGREE: 1, ROUNDS: 1, TOKENS: 1 } },
  { name: "disagree-combine", set: { N: 3, DISAGREE: 2, ROUNDS: 1 } },
  { name: "time-limits", set: { N: 3, TIME_LIMITS: 3, TOKENS: 2 } },
  { name: "abort", large: true, set: { N: 3, ABORTS: 1, SLOTS: 1, TOKENS: 2 } },
  { name: "abort-lanes", set: { N: 2, LANES: 2, ABORTS: 1, TOKENS: 1 } },
  { name: "abort-close", set: { N: 3, ABORTS: 1, CLOSE: 1, TOKENS: 2 } },
  { name: "close", set: { N: 3, CLOSE: 2, SLOTS: 1, TOKENS: 2 } },
  { name: "crash-noticed", large: true, set: { N: 3, CRASH: 2, SLOTS: 1, TOKENS: 2 } },
  { name: "crash-unnoticed", set: { N: 3, CRASH: 1, LAST_RESORT: 1, TOKENS: 2 } },
  { name: "crash-in-telling", set: { N: 3, CRASH: 2, TIME_LIMITS: 4, TOKENS: 1 } },
  { name: "crash-lanes", set: { N: 2, LANES: 2, CRASH: 2, TOKENS: 1 } },

  { name: "reset", set: { N: 2, RESET: 1, ABORTS: 1, MORE: 2 } },
  { name: "reset-3", set: { N: 3, RESET: 1, ABORTS: 1, ROUNDS: 1, TOKENS: 2 } },
  { name: "reset-lanes", large: true, set: { N: 2, LANES: 2, RESET: 1, ABORTS: 1, ROUNDS: 1, TOKENS: 1 } },
  { name: "reset-fails", set: { N: 2, RESET: 1, ABORTS: 1, GIVE_UPS: 1, ROUNDS: 1 } },
  { name: "reset-without-dead", set: { N: 3, RESET: 2, CRASH: 2, ROUNDS: 1, TOKENS: 1 } },
  { name: "zombie", set: { N: 2, RESET: 2, TIME_LIMITS: 3 } },
  { name: "zombie-3", large: true, set: { N: 3, RESET: 2, TIME_LIMITS: 1, ROUNDS: 1, TOKENS: 1 } },
  { name: "left-out-and-back", large: true, set: { N: 3, RESET: 3, TIME_LIMITS: 1, ROUNDS: 1, TOKENS: 1 } },
];
