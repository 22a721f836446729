import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { RankOutput } from "./rank-output.js";
import type { RunOptions } from "./run-options.js";

/** How a rank ended. */
export interface RankEnd {
  /** As a shell would have it: 128 and the signal's number where a signal ended it. */
  readonly exitCode: number;
  /** What became of it, to follow its name. */
  readonly fate: string;
}

const CANNOT_START = 126;
// Windows has neither sessions nor process groups.
const HAS_GROUPS = process.platform !== "win32";

/** The process of one rank, and what it starts. */
export class RankProcess {
  /** Settles when the process is gone. */
  readonly ended: Promise<RankEnd>;
  /** Settles when all that it wrote was passed on. */
  readonly drained: Promise<void>;
  readonly #child: ChildProcess | undefined;

  constructor({ nodeArgs, script, args, prefix }: RunOptions, env: NodeJS.ProcessEnv) {
    const outputs: RankOutput[] = [];
    try {
      this.#child = spawn(process.execPath, [...nodeArgs, script, ...args], {
        env,
        stdio: prefix ? ["ignore", "pipe", "pipe"] : ["ignore", "inherit", "inherit"],
        // A session of its own: a terminal's Ctrl-C reaches it once, through the launcher, and what it starts ends with it.
        detached: HAS_GROUPS,
      });
      const { stdout, stderr } = this.#child;
      const label = `[${env.RANK}] `;
      if (stdout && stderr) {
        outputs.push(new RankOutput(stdout, process.stdout, label));
        outputs.push(new RankOutput(stderr, process.stderr, label));
      }
      this.ended = endOf(this.#child);
    } catch (error) {
      this.ended = Promise.resolve(notStarted(error as Error));
    }
    this.drained = this.ended.then(async () => {
      await Promise.all(outputs.map((output) => output.finish()));
    });
  }

  /** Its process group, while it runs. */
  get group(): number | undefined {
    const { pid, exitCode, signalCode } = this.#child ?? {};
    return exitCode === null && signalCode === null ? pid : undefined;
  }

  /** Sends a signal to the rank and what it started, while it runs. */
  signal(signal: NodeJS.Signals): void {
    if (this.group !== undefined) send(this.group, signal);
  }
}

async function endOf(child: ChildProcess): Promise<RankEnd> {
  const end = await new Promise<RankEnd>((resolve) => {
    child.once("exit", (code, signal) => resolve(signal ? endedBy(signal) : exited(code ?? 0)));
    child.once("error", (error) => resolve(notStarted(error)));
  });
  if (child.pid !== undefined && HAS_GROUPS) send(child.pid, "SIGKILL");
  return end;
}

function send(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(HAS_GROUPS ? -group : group, signal);
  } catch {
    // It is gone already.
  }
}

function exited(exitCode: number): RankEnd {
  return { exitCode, fate: `ended with exit code ${exitCode}` };
}

function endedBy(signal: NodeJS.Signals): RankEnd {
  return { exitCode: 128 + constants.signals[signal], fate: `was ended by ${signal}` };
}

function notStarted({ message }: Error): RankEnd {
  return { exitCode: CANNOT_START, fate: `could not be started: ${message}` };
}
