/** The text of src/loops/sum-wasm.ts. */
export function assemble(): Promise<string>;
