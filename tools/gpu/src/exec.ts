import { spawn } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";

export interface ExecResult {
  /** Undefined where it ran out of time. */
  readonly code: number | undefined;
  readonly seconds: number;
  readonly stdout: string;
  /** The end of stdout and stderr as they came. */
  readonly tail: string;
}

const TAIL = 4_000;

/** Runs programs one after another, each with a time limit, and keeps all that they print in one log. */
export class Executor {
  readonly #log: WriteStream;
  readonly #env: NodeJS.ProcessEnv;

  constructor(logFile: string, env: NodeJS.ProcessEnv) {
    this.#log = createWriteStream(logFile);
    this.#env = env;
  }

  /** @param env what the program finds in its environment besides */
  async run(
    command: string,
    args: readonly string[],
    limitSeconds: number,
    env: Readonly<Record<string, string>> = {},
  ): Promise<ExecResult> {
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value} `);
    this.#log.write(`\n::: ${variables.join("")}${command} ${args.join(" ")}\n`);
    const start = performance.now();
    // `timeout` ends the whole tree, also where this process hangs or is killed meanwhile.
    const limit = Math.max(1, Math.floor(limitSeconds));
    const child = spawn("timeout", ["--kill-after=5", String(limit), command, ...args], {
      env: { ...this.#env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let tail = "";
    const keep = (chunk: Buffer) => {
      this.#log.write(chunk);
      tail = (tail + chunk.toString("utf8")).slice(-TAIL);
    };
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString("utf8");
      keep(chunk);
    });
    child.stderr.on("data", keep);
    const code = await new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (exit, signal) => resolve(exit ?? (signal === "SIGKILL" ? 137 : 1)));
    });
    const seconds = (performance.now() - start) / 1000;
    this.#log.write(`::: exit ${code} after ${seconds.toFixed(1)} s\n`);
    // 124: timeout(1) ended it; 137: it had to be killed.
    return { code: code === 124 || code === 137 ? undefined : code, seconds, stdout, tail };
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#log.end(resolve));
  }
}
