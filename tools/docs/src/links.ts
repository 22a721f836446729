import { existsSync } from "node:fs";
import { join, posix } from "node:path";
import GithubSlugger from "github-slugger";
import { toString as textOf } from "mdast-util-to-string";
import { visit } from "unist-util-visit";
import { type Document, ROOT, readDocument } from "./documents.js";

export interface Link {
  readonly document: Document;
  readonly line: number;
  readonly url: string;
}

/** Links, images and link definitions of a document. */
export function linksOf(document: Document): Link[] {
  const links: Link[] = [];
  visit(document.tree, (node) => {
    if (node.type !== "link" && node.type !== "image" && node.type !== "definition") return;
    links.push({ document, line: node.position?.start.line ?? 0, url: node.url });
  });
  return links;
}

/** Anchors of a document's headings, as GitHub makes them. */
export function anchorsOf({ tree }: Document): Set<string> {
  const slugger = new GithubSlugger();
  const anchors = new Set<string>();
  visit(tree, "heading", (node) => {
    anchors.add(slugger.slug(textOf(node)));
  });
  return anchors;
}

const GENERATED = ["node_modules", "dist", "build"];

/**
 * Looks up where a link leads inside the repository; links to elsewhere are only parsed.
 *
 * @returns why it leads nowhere, or undefined
 */
export function linkProblem({ document, url }: Link): string | undefined {
  if (/^[a-z][a-z+.-]*:/i.test(url)) return URL.canParse(url) ? undefined : `${url} is no URL`;
  const [path = "", anchor] = decodeURI(url).split("#", 2);
  const target = path === "" ? document.path : posix.join(posix.dirname(document.path), path);
  if (posix.isAbsolute(path) || target.startsWith("..")) return `${url} leads out of the repository`;
  if (target.split("/").some((part) => GENERATED.includes(part))) return `${url} leads to a generated file`;
  if (path !== "" && !existsSync(join(ROOT, target))) return `${url}: there is no ${target}`;
  if (anchor === undefined) return undefined;
  if (!target.endsWith(".md")) return `${url}: only Markdown files have anchors`;
  const there = path === "" ? document : readDocument(target);
  return anchorsOf(there).has(anchor) ? undefined : `${url}: ${target} has no heading #${anchor}`;
}
