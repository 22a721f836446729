import { visit } from "unist-util-visit";
import type { Document } from "./documents.js";

/** A fenced block of a Markdown file. */
export interface Snippet {
  readonly document: string;
  /** Of the opening fence. */
  readonly line: number;
  readonly language: string;
  /** What follows the language in the info string. */
  readonly words: readonly string[];
  readonly text: string;
}

/** All fenced blocks of a document. */
export function snippetsOf({ path, tree }: Document): Snippet[] {
  const snippets: Snippet[] = [];
  visit(tree, "code", (node) => {
    snippets.push({
      document: path,
      line: node.position?.start.line ?? 0,
      language: node.lang ?? "",
      words: node.meta?.split(/\s+/) ?? [],
      text: node.value,
    });
  });
  return snippets;
}

/** Where a snippet stands, for reports. */
export function placeOf({ document, line }: Snippet): string {
  return `${document}:${line}`;
}

/** Whether a snippet is a program, or a fragment of one. */
export function isProgram({ language }: Snippet): boolean {
  return language === "js" || language === "ts";
}

/** Whether a snippet is a fragment, which is not run. */
export function isFragment({ words }: Snippet): boolean {
  return words.includes("no-run");
}

/** How many ranks the launcher starts of a snippet that is marked `ranks=N`; undefined for one that runs by itself. */
export function ranksOf({ words }: Snippet): number | undefined {
  const word = words.find((word) => /^ranks=\d+$/.test(word));
  return word === undefined ? undefined : Number(word.slice("ranks=".length));
}
