import { spawnSync } from "node:child_process";

/** Counts checks and prints one line for each. */
export class Checks {
  #passed = 0;
  #failed = 0;
  #since = Date.now();

  /** @returns whether it holds */
  report(name, holds, output = "") {
    const seconds = ((Date.now() - this.#since) / 1000).toFixed(1);
    this.#since = Date.now();
    holds ? this.#passed++ : this.#failed++;
    console.log(`${holds ? "ok  " : "FAIL"} ${name} (${seconds} s)`);
    if (!holds) console.log(output.replace(/^/gm, "     "));
    return holds;
  }

  /** Runs a command, which has to succeed. @returns its standard output, or undefined */
  run(name, command, args, options) {
    const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", ...options });
    const output = error ? String(error) : `${stdout}${stderr}`;
    return this.report(name, status === 0, output) ? stdout : undefined;
  }

  /** Prints the sum. @returns the exit code */
  end() {
    console.log(`${this.#passed} checks passed, ${this.#failed} failed`);
    return this.#failed === 0 ? 0 : 1;
  }
}
