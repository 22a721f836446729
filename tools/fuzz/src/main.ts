const help = `Throws hostile calls, bytes and strangers at the packages. Exit code 0: nothing gave way.

  npm run fuzz -- surface [--cases N] [--seed N]                  the public API, with hostile arguments
  npm run fuzz -- frames [--frames N] [--seconds S] [--seed N]    what a rank of a process group receives
  npm run fuzz -- strangers [--joins N] [--floods N] [--connections N]  those who do not know the secret, at ranks' doors
  npm run fuzz -- addon [--calls N] [--seed N]                    the addon's functions, where it was built
  npm run fuzz -- native [--messages N] [--exchanges N] [--calls N]   the addon's host code, with sanitizers`;

const MODES = ["surface", "frames", "strangers", "addon", "native"];

const [mode, ...args] = process.argv.slice(2);
if (mode === undefined || !MODES.includes(mode)) {
  console.log(help);
  process.exitCode = mode === "--help" ? 0 : 2;
} else {
  process.argv.splice(2, process.argv.length, ...args);
  await import(new URL(`./${mode}-main.js`, import.meta.url).href);
}
