// Assembles sum.wat into src/loops/sum-wasm.ts, which is kept in the repository; a test compares them.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import wabt from "wabt";

const source = new URL("sum.wat", import.meta.url);
const target = new URL("../src/loops/sum-wasm.ts", import.meta.url);

/** The text of src/loops/sum-wasm.ts. */
export async function assemble() {
  const features = { simd: true };
  const module = (await wabt()).parseWat("sum.wat", readFileSync(source, "utf8"), features);
  module.validate(features);
  const base64 = Buffer.from(module.toBinary({}).buffer).toString("base64");
  return `// Made from wasm/sum.wat by wasm/build.mjs.\nexport const SUM_WASM =\n  "${base64}";\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(target, await assemble());
