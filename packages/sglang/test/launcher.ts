import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** The built `moe-a2a`. */
export const cli: string = fileURLToPath(new URL("../dist/cli.js", import.meta.url));

/** For scripts that join a group. */
export const CORE: string = JSON.stringify(new URL("../../core/dist/index.js", import.meta.url).href);

const launchers: Launcher[] = [];
const folders: string[] = [];

export interface LaunchEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The built `moe-a2a`, in a process of its own with nothing else in the environment than what is given. */
export class Launcher {
  readonly child: ChildProcess;
  readonly ended: Promise<LaunchEnd>;
  stdout = "";
  stderr = "";

  constructor(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    launchers.push(this);
    this.child = spawn(process.execPath, [cli, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env.PATH, ...env },
    });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    this.ended = new Promise((resolve) => {
      this.child.once("close", (code, signal) => {
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  /** The matches in what it wrote to standard output, once there are `count`. */
  async saw(pattern: RegExp, count = 1): Promise<RegExpMatchArray[]> {
    for (;;) {
      const found = [...this.stdout.matchAll(pattern)];
      if (found.length >= count) return found;
      if (this.child.exitCode !== null) throw new Error(`no ${pattern} in ${this.stdout}${this.stderr}`);
      await sleep(10);
    }
  }
}

/** Runs `moe-a2a` to its end. */
export function launch(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<LaunchEnd> {
  return new Launcher(args, env).ended;
}

/** Writes a script, an ES module, to a folder of its own. */
export async function script(text: string, name = "script.mjs"): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "moe-a2a-run-"));
  folders.push(folder);
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

/** Ends and removes what the test has made; launchers take their ranks with them. */
export async function cleanUp(): Promise<void> {
  for (const { child } of launchers.splice(0)) child.kill("SIGKILL");
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Resolves when the process is gone. */
export async function gone(pid: number): Promise<void> {
  while (isAlive(pid)) await sleep(20);
}

/** What each rank wrote, by lines without their prefix. */
export function linesByRank({ stdout }: Pick<LaunchEnd, "stdout">, ranks: number): string[][] {
  const lines = stdout.split("\n").slice(0, -1);
  return Array.from({ length: ranks }, (_, rank) => {
    const prefix = `[${rank}] `;
    return lines.filter((line) => line.startsWith(prefix)).map((line) => line.slice(prefix.length));
  });
}
