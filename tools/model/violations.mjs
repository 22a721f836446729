/** What an assertion of the model is about, by a variable in it: Spin shows it with all macros expanded. */
const meanings = [
  [/!\(bad\)/, "stale read"],
  [/\bheld\[/, "rows overwritten"],
  [/\bunread(Combine)?\[/, "header overwritten"],
  [/\bunreadPacket\[/, "packets overwritten"],
  [/\bowed\[/, "results overwritten"],
  [/\bbegun\[/, "success without having heard from all"],
  [/\bn\[l\]==.*\bgeneration\[/, "success in spite of a disagreement"],
  [/\bcombineFlag\[/, "flag stored by two"],
  [/\bwhy\b/, "verdict without a cause"],
  [/\bsucceeded\[|\bfailed\[/, "verdicts that do not agree"],
];

/** A violation as Spin tells it, in words. */
export function inWords(why) {
  if (why === "invalid end state") return "deadlock (invalid end state)";
  const meaning = meanings.find(([pattern]) => pattern.test(why))?.[1];
  return meaning === undefined ? why : `${meaning} (assertion)`;
}
