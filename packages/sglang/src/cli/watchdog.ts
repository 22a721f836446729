import { type ChildProcess, spawn } from "node:child_process";

/**
 * Ends ranks whose launcher was killed and could not do it: a shell that reads the launcher's list of process groups, each
 * line in place of the last, and ends those of the last line when the pipe ends. Where there is no `sh`, there is none.
 */
export class Watchdog {
  readonly #shell: ChildProcess | undefined;

  constructor(graceMs: number) {
    if (process.platform === "win32") return;
    const script = `
      groups=
      while read -r line; do groups=$line; done
      [ -n "$groups" ] || exit 0
      kill -s TERM -- $groups
      sleep ${Math.ceil(graceMs / 1000)}
      kill -s KILL -- $groups`;
    // In a session of its own, as it has to outlive the launcher.
    this.#shell = spawn("sh", ["-c", script], {
      stdio: ["pipe", "ignore", "ignore"],
      cwd: "/",
      env: { PATH: process.env.PATH },
      detached: true,
    });
    this.#shell.on("error", () => {});
    this.#shell.stdin?.on("error", () => {});
    this.#shell.unref();
  }

  /** Replaces the process groups to end. */
  watch(groups: readonly number[]): void {
    this.#shell?.stdin?.write(`${groups.map((group) => -group).join(" ")}\n`);
  }

  close(): void {
    this.watch([]);
    this.#shell?.stdin?.end();
  }
}
