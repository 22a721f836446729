import type { TableCell } from "mdast";
import { toString as textOf } from "mdast-util-to-string";
import { visit } from "unist-util-visit";
import type { Document } from "./documents.js";

export interface Cell {
  readonly text: string;
  /** The cell's code spans. */
  readonly code: readonly string[];
}

export interface Table {
  readonly line: number;
  readonly header: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

function readCell(cell: TableCell): Cell {
  const code: string[] = [];
  visit(cell, "inlineCode", (node) => {
    code.push(node.value);
  });
  return { text: textOf(cell), code };
}

export function tablesOf({ tree }: Document): Table[] {
  const tables: Table[] = [];
  visit(tree, "table", (node) => {
    const [header, ...rows] = node.children.map((row) => row.children.map(readCell));
    tables.push({
      line: node.position?.start.line ?? 0,
      header: (header ?? []).map(({ text }) => text),
      rows,
    });
  });
  return tables;
}

/** The one table whose header starts with these cells. @throws where there is none, or more than one */
export function tableWith(document: Document, ...header: readonly string[]): Table {
  const found = tablesOf(document).filter((table) => header.every((text, i) => table.header[i] === text));
  if (found.length !== 1) {
    throw new Error(
      `${document.path} has ${found.length} tables that start with ${header.join(" | ")}, not one`,
    );
  }
  return found[0] as Table;
}
