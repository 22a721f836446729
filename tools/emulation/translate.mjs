// Makes C++ of the CUDA C++ that the kernels are written in: what a compiler for GPUs reads and another does not.

/** A launch: kernel<<<grid, block, shared, stream>>>(arguments). */
const LAUNCH = /\b(\w+)<<<(.+?), (\w+), 0, (.+?)>>>\(/g;
/** A variable of a block. A kernel has one at most. */
const SHARED = /__shared__ (\w+) (\w+);/g;
/** The one instruction outside of memory.cuh. */
const SHIFT = /asm\("shl\.b32 %0, 1, %1;" : "=r"\((\w+)\) : "r"\((\w+)\)\);/g;

export function translate(source) {
  const translated = source
    .replace(SHARED, "$1 &$2 = ::emulation::shared<$1>();")
    .replace(LAUNCH, '::emulation::launch("$1", $1, dim3($2), dim3($3), $4, ')
    .replace(SHIFT, "$1 = $2 < 32 ? 1u << $2 : 0;");
  for (const left of ["__shared__", "<<<", "asm(", 'asm volatile("']) {
    const at = translated.indexOf(left);
    // A constraint without an instruction means the same everywhere.
    if (at >= 0 && !translated.startsWith('asm volatile("" ::', at)) {
      throw new Error(`cannot translate: ${translated.slice(at, at + 80).split("\n")[0]}`);
    }
  }
  return translated;
}
