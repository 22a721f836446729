import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { visit } from "unist-util-visit";
import { type Document, packageFolders, ROOT } from "./documents.js";
import { programOf, readManifest } from "./manifests.js";
import { snippetsOf } from "./snippets.js";

export interface Command {
  readonly line: number;
  readonly text: string;
}

/** Commands of a document: the lines of its `sh` blocks, and its code spans that start with npm or npx. */
export function commandsOf(document: Document): Command[] {
  const commands: Command[] = [];
  for (const { language, line, text } of snippetsOf(document)) {
    if (language !== "sh") continue;
    text.split("\n").forEach((command, i) => {
      if (command.trim() !== "") commands.push({ line: line + 1 + i, text: command.trim() });
    });
  }
  visit(document.tree, "inlineCode", (node) => {
    if (/^np[mx] /.test(node.value)) {
      commands.push({ line: node.position?.start.line ?? 0, text: node.value });
    }
  });
  return commands;
}

/** What is wrong with a command that the documentation asks for, or undefined. */
export function commandProblem({ text }: Command): string | undefined {
  const words = text
    .replace(/\s+#.*$/, "")
    .split(/\s+/)
    .filter((word) => word !== "--yes");
  const [program, verb, argument] = words;
  if (program === "npx") {
    if (verb === readManifest(".").packageManager) return undefined;
    const own = programOf(verb ?? "");
    if (own) return argumentsProblem(own, words.slice(2));
    const known = existsSync(join(ROOT, "node_modules", ".bin", verb ?? ""));
    return known ? undefined : `the root installs no program "${verb}"`;
  }
  if (program !== "npm") return `"${program}" is not npm or npx, so nobody checks it`;
  if (verb === "install" || verb === "i") {
    const names = packageFolders().map((folder) => readManifest(folder).name);
    const unknown = words.slice(2).filter((word) => !names.includes(word));
    return unknown.length === 0 ? undefined : `${unknown.join(", ")} is no package of this repository`;
  }
  const script = verb === "run" ? argument : verb;
  return Object.hasOwn(readManifest(".").scripts ?? {}, script ?? "") ? undefined : `no script "${script}"`;
}

/** What is wrong with the arguments of a program of this repository, by the help of the command that they start with. */
function argumentsProblem(program: string, [command = "", ...rest]: readonly string[]): string | undefined {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, command, "--help"], {
    encoding: "utf8",
  });
  if (status !== 0) return stderr.split("\n", 1)[0];
  // What follows a script is its own.
  const script = rest.findIndex((word) => /\.[cm]?[jt]s$/.test(word));
  const options = rest.slice(0, script < 0 ? rest.length : script).filter((word) => word.startsWith("--"));
  const known: string[] = stdout.match(/--[a-z-]+/g) ?? [];
  const unknown = options.filter((option) => !known.includes(option.split("=", 1)[0] as string));
  return unknown.length === 0 ? undefined : `the help of ${command} has no ${unknown.join(", ")}`;
}
