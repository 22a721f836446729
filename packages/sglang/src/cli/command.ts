/** A subcommand of `moe-a2a`. */
export interface Command {
  /** What it does, in one line of the general help. */
  readonly summary: string;
  /**
   * Runs it with the arguments that follow its name.
   *
   * @returns the exit code
   * @throws (rejects) UsageError
   */
  main(args: readonly string[]): Promise<number>;
}

/** Arguments or environment are not what a command needs; the message says what to give. The exit code is 2. */
export class UsageError extends Error {}
