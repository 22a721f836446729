/**
 * Wrong protocols. `MUTANT_<define>` in the model makes the change; `worlds` are the configurations that are tried, in
 * this order, until one of them catches it.
 */
export const mutants = [
  { name: "flag-equality", what: "flags are compared by equality", worlds: ["empty-rounds"] },
  { name: "shared-flags", what: "both lanes use one set of flags", worlds: ["two-lanes"] },
  { name: "flag-before-data", what: "flags are stored before rows", worlds: ["two-ranks"] },
  { name: "single-header", what: "dispatch headers are not doubled", worlds: ["empty-rounds"] },
  {
    name: "single-recv",
    what: "one receive buffer, rows promised until the combine is ready",
    worlds: ["two-ranks"],
  },
  { name: "no-generation-check", what: "no look at the generation before storing", worlds: ["zombie"] },
  {
    name: "no-second-look",
    what: "no look at the generation after reading",
    worlds: ["zombie", "zombie-3"],
  },
  { name: "form-from-count", what: "the wire form follows from the local count", worlds: ["packets-empty"] },
  { name: "tag-wraps", what: "tags of packets come again as flags do", worlds: ["packets-empty"] },
  {
    name: "tag-of-round-alone",
    what: "tags of packets name the round alone",
    worlds: ["packets-zombie"],
  },
  { name: "one-packet-area", what: "both phases put packets in one place", worlds: ["packets-empty"] },
  {
    name: "header-vouches",
    what: "a phase is ready once the headers are here, packets or not",
    worlds: ["packets-empty"],
  },
  { name: "piece-before-rows", what: "the flag of a row goes before it", worlds: ["pieces"] },
  {
    name: "combine-hears-senders",
    what: "a combine in packets waits for those alone that send it results",
    worlds: ["packets-empty"],
  },
  {
    name: "packets-not-missed",
    what: "whose header is here is not missed",
    worlds: ["packets-crash"],
  },
  {
    name: "gone-before-packets",
    what: "who left is missed before its packets are looked for once more",
    worlds: ["packets-close"],
  },
  {
    name: "waits-before-sending",
    what: "a rank waits for others before it has sent its own packets",
    worlds: ["packets-empty"],
  },
  {
    name: "in-place-header-first",
    what: "a combine's header goes before results that lie in the receive buffer",
    worlds: ["in-place-3"],
  },
  { name: "no-agreement", what: "headers are not compared", worlds: ["disagree-slots"] },
  { name: "zero-tokens-skip", what: "a rank without tokens sends nothing", worlds: ["two-ranks"] },
  {
    name: "idle-combine-flags",
    what: "flags of a combine without slots stand still",
    worlds: ["empty-rounds"],
  },
  { name: "peers-not-told", what: "a failed rank tells nobody", worlds: ["abort"] },
  {
    name: "verdict-not-passed-on",
    what: "only the first rank to fail tells the others",
    worlds: ["crash-in-telling"],
  },
  {
    name: "verdict-on-all-phases",
    what: "a verdict fails phases that its writer completed",
    worlds: ["close"],
  },
  {
    name: "gone-before-verdict",
    what: "who left is missed before its verdict is looked for",
    worlds: ["abort-close"],
  },
  { name: "meet-once", what: "a reset has no second meeting", worlds: ["reset"] },
  { name: "clean-at-once", what: "a reset has no first meeting", worlds: ["reset"] },
  { name: "own-rounds", what: "ranks go on with their own round numbers", worlds: ["reset"] },
  {
    name: "reset-keeps-flags",
    what: "a reset leaves flags as they are",
    worlds: ["reset", "left-out-and-back"],
  },
  { name: "left-out-untold", what: "the window of who is left out stays as it is", worlds: ["zombie"] },
  {
    name: "failed-reset-untold",
    what: "who fails in a reset tells nobody who met all the same",
    worlds: ["reset-fails"],
  },
];

/** The macro that turns a mutant on. */
export function macroOf(mutant) {
  return `MUTANT_${mutant.name.toUpperCase().replaceAll("-", "_")}`;
}
