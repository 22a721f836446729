const help = `Throws hostile calls, bytes and strangers at the packages. Exit code 0: nothing gave way.

  npm run fuzz -- surface    the public API, with hostile arguments: --cases N, --path PATH
  npm run fuzz -- frames     what a rank of a process group receives: --frames N, --seconds S, --first ATTACK
  npm run fuzz -- strangers  those who do not know the secret, at ranks' doors: --joins N, --floods N, --connections N
  npm run fuzz -- addon      the addon's functions, where it was built: --calls N, --threads N
  npm run fuzz -- native     the addon's host code, with sanitizers: --messages N, --exchanges N, --calls N

All of them take --seed N, and --json FILE for their figures.

  npm run fuzz -- figures FILE... [--commit ID]
                             takes figures into docs/figures, and writes the tables of docs/faults.md`;

const MODES = ["surface", "frames", "strangers", "addon", "native", "figures"];

const [mode, ...args] = process.argv.slice(2);
if (mode === undefined || !MODES.includes(mode)) {
  console.log(help);
  process.exitCode = mode === "--help" ? 0 : 2;
} else {
  process.argv.splice(2, process.argv.length, ...args);
  await import(new URL(`./${mode}-main.js`, import.meta.url).href);
}
