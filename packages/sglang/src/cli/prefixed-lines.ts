const NEWLINE = 0x0a;
/** A line that is longer goes out in parts, for no line may fill the memory. */
const MAX_BEGUN = 1 << 20;

/**
 * Puts a prefix before each line of what comes in pieces, and gives out whole lines only. It looks at bytes: those of a
 * character of several are never cut, as none of them looks like a newline, but where a line is over a MiB long.
 */
export class PrefixedLines {
  readonly #prefix: Buffer;
  #begun: Buffer[] = [];
  #begunBytes = 0;

  constructor(prefix: string) {
    this.#prefix = Buffer.from(prefix);
  }

  /** The lines that a further piece completes. */
  push(piece: Buffer): Buffer {
    const lines: Buffer[] = [];
    let start = 0;
    for (let end = piece.indexOf(NEWLINE) + 1; end > 0; end = piece.indexOf(NEWLINE, start) + 1) {
      lines.push(this.#prefix, ...this.#begun, piece.subarray(start, end));
      this.#begun = [];
      this.#begunBytes = 0;
      start = end;
    }
    if (start < piece.length) {
      this.#begun.push(piece.subarray(start));
      this.#begunBytes += piece.length - start;
    }
    if (this.#begunBytes > MAX_BEGUN) lines.push(this.end());
    return Buffer.concat(lines);
  }

  /** The last line where nothing ended it. It gets a newline, as other ranks' lines may follow. */
  end(): Buffer {
    return this.#begun.length === 0 ? Buffer.alloc(0) : this.push(Buffer.of(NEWLINE));
  }
}
