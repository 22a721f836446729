import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

// The built program, as `npm start` runs it.
const main = fileURLToPath(new URL("../dist/main.js", import.meta.url));

export interface Run {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly lastLine: string | undefined;
}

/** The demo in a process, and a process group, of its own. */
export class Demo {
  readonly child: ChildProcess;
  readonly ended: Promise<Run>;
  stdout = "";
  stderr = "";

  constructor(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(process.execPath, [main, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
      detached: true,
    });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (code, signal) => {
        const { stdout, stderr } = this;
        const lines = stdout.split("\n");
        const lastLine = lines.at(-1) === "" ? lines.at(-2) : lines.at(-1);
        resolve({ code, signal, stdout, stderr, lastLine });
      });
    });
  }

  /** The matches in what it wrote to a stream, once there are `count`. */
  async saw(stream: "stdout" | "stderr", pattern: RegExp, count = 1): Promise<RegExpMatchArray[]> {
    for (;;) {
      const found = [...this[stream].matchAll(pattern)];
      if (found.length >= count) return found;
      if (this.child.exitCode !== null) throw new Error(`no ${pattern} in ${this.stdout}${this.stderr}`);
      await sleep(5);
    }
  }
}

/** Runs the demo to its end. */
export function demo(...args: string[]): Promise<Run> {
  return new Demo(args).ended;
}
