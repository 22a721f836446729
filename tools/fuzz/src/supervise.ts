import { fork } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Milliseconds without a sign of life after which a run hangs. */
const SILENCE_MS = 30_000;
/** Between two signs of life. */
const ALIVE_MS = 500;
let told = 0;

/** Whether this process runs for {@link supervise}. */
export function isChild(): boolean {
  return process.env.MOE_A2A_FUZZ_CHILD === "1";
}

/** Runs the program itself; {@link supervise} has to hear how it ended, as a process may also just run dry. */
export async function runChild(main: () => Promise<boolean>): Promise<void> {
  let passed = false;
  try {
    passed = await main();
  } catch (error) {
    console.log("FAILED:", error);
  }
  process.send?.({ passed }, () => process.exit(passed ? 0 : 1));
}

/** Tells the supervising process that the run goes on. */
export function reportAlive(): void {
  const now = performance.now();
  if (now - told < ALIVE_MS) return;
  told = now;
  process.send?.("alive");
}

/**
 * Runs a program of this tool in a process of its own, so that a crash or a hang is told with the case that it was at.
 *
 * @returns the exit code
 */
export async function supervise(
  program: URL,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "moe-a2a-fuzz-"));
  const last = join(folder, "last");
  const child = fork(fileURLToPath(program), [...args, "--last", last], {
    env: { ...process.env, ...env, MOE_A2A_FUZZ_CHILD: "1" },
  });
  let hung = false;
  const hang = (): void => {
    hung = true;
    child.kill("SIGKILL");
  };
  let timer = setTimeout(hang, SILENCE_MS);
  let passed: boolean | undefined;
  child.on("message", (message) => {
    if (typeof message === "object") passed = (message as { readonly passed: boolean }).passed;
    clearTimeout(timer);
    timer = setTimeout(hang, SILENCE_MS);
  });
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.once("exit", (...end) => resolve(end));
  });
  clearTimeout(timer);
  if (hung || passed === undefined) {
    console.log(`FAILED: ${hung ? "a hang" : `ended by ${signal ?? `exit code ${code}`}`}, in this case:`);
    console.log(readFileSync(last, "utf8").trim());
  }
  rmSync(folder, { recursive: true, force: true });
  return passed && code === 0 ? 0 : 1;
}
