// Worlds to try the kernels in: each is a seed's choice of ranks, shapes, work mappings, and of the GPUs themselves.

/** Numbers from a seed (Marsaglia, Xorshift RNGs, 2003). */
function numbersFrom(seed) {
  let state = (seed * 2654435761) >>> 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** The programs of a seed, each with what it takes, and what the emulation takes from its environment. */
export function worldsOf(seed) {
  return seed % 4 === 0 ? [roundsOf(seed), stopOf(seed)] : [roundsOf(seed)];
}

/** A rank that is stopped while others are late; has a device of its own, so that its phases overlap. */
function stopOf(seed) {
  const env = { EMULATION_SEED: String(seed), EMULATION_DEVICES: "2", EMULATION_SMS: "40" };
  return { program: "stop_test", args: [], env };
}

function roundsOf(seed) {
  const below = numbersFrom(seed);
  for (let i = 0; i < 8; i++) below(2);
  const isWide = below(10) === 0;
  const ranks = isWide ? 8 : 1 + below(5);
  const lanes = below(8) === 0 ? 2 : 1;
  const devices = isWide && below(2) === 0 ? 8 : 1 + below(5);
  const experts = ranks * (1 + below(5));
  const chained = below(2) === 0 ? 2 + below(5) : 1;
  const options = {
    ranks,
    lanes,
    experts,
    topk: Math.min(experts, 1 + below(6)),
    wire: below(3),
    hidden: 8 * (1 + below(40)),
    capacity: below(8) === 0 ? 1 + below(250) : 1 + below(70),
    delays: below(3) === 0 ? 3000 : 0,
    sms: below(4) === 0 ? 2 : 0,
    extra: 7 * below(3),
    "slots-by": below(3),
    kind: below(3),
    // Tiles of any length, and grids of any size: larger than what fits, too.
    tile: below(4) === 0 ? 1 + below(32) : 0,
    blocks: below(6) === 0 ? 1 + below(40) : 0,
    // Rounds in a chain overlap as far as launches let them.
    chained,
    rounds: Math.ceil(12 / chained),
    seed,
  };
  // What waits has to fit: a block for each lane of each rank of a device, at least.
  const sms = Math.max(1 + below(6), Math.ceil(ranks / devices) * lanes);
  // Others' kernels hold SMs now and then, when blocks of a grid have begun and others have not.
  const occupied = below(4) === 0 ? { EMULATION_OCCUPIED: "1" } : {};
  return {
    program: "rounds_test",
    args: Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]),
    env: {
      EMULATION_SEED: String(seed),
      EMULATION_DEVICES: String(devices),
      EMULATION_SMS: String(sms),
      ...occupied,
    },
  };
}
