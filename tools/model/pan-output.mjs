/**
 * What a verifier that Spin made has to say. A search that was cut short is no proof, whatever else it says.
 *
 * @param {string} output of `pan`
 * @returns {{ result: "proved" | "violated" | "truncated", states: number, depth: number, why?: string }}
 */
export function readPanOutput(output) {
  const number = (pattern) => Number(output.match(pattern)?.[1] ?? Number.NaN);
  const states = number(/^\s*([\d.e+]+) states, stored/m);
  const depth = number(/depth reached (\d+)/);
  const errors = number(/errors: (\d+)/);
  // "pan:1: assertion violated …", or "pan: …" where the search itself has trouble.
  const violation = output.match(/^pan:\d+: (.*?) \(at depth \d+\)/m)?.[1];
  if (violation !== undefined) {
    return { result: "violated", states, depth, why: violation.replace(/\s+/g, " ").trim() };
  }
  const trouble =
    output.match(/^error: max search depth too small/m) ??
    output.match(/out of memory|memory limit|reached -DMEMLIM bound/i) ??
    output.match(/^Warning: Search not completed/im) ??
    output.match(/VECTORSZ[^\n]*too small/);
  if (trouble || errors !== 0 || !(states > 0)) {
    return { result: "truncated", states, depth, why: trouble?.[0] ?? "the verifier did not finish" };
  }
  return { result: "proved", states, depth };
}
