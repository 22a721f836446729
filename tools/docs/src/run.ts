import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { programOf } from "./manifests.js";
import type { Snippet } from "./snippets.js";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));

/** Makes an empty folder for snippets, inside this package so that they resolve what it depends on. */
export function emptyFolder(name: string): string {
  const folder = join(PACKAGE, "build", name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Writes a snippet to a file whose line numbers are those of its document. */
export function writeSnippet(folder: string, { document, line, language, text }: Snippet): string {
  const file = join(folder, `${document.replaceAll("/", "-")}-${line}.${language}`);
  writeFileSync(file, `${"\n".repeat(line)}${text}\n`);
  return file;
}

/** The repository's own strict settings; every snippet is a module. */
function compilerOptions(): ts.CompilerOptions {
  const config = { extends: "../../tsconfig.base.json", files: [] };
  const { options } = ts.parseJsonConfigFileContent(
    config,
    ts.sys,
    PACKAGE,
    undefined,
    join(PACKAGE, "snippets.json"),
  );
  return { ...options, noEmit: false, declaration: false, moduleDetection: ts.ModuleDetectionKind.Force };
}

function format(diagnostic: ts.Diagnostic): string {
  const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n");
  const { file, start } = diagnostic;
  const line = file && start !== undefined ? ts.getLineAndCharacterOfPosition(file, start).line + 1 : "?";
  return `line ${line}: TS${diagnostic.code}: ${message}`;
}

/**
 * Type-checks TypeScript files, each as a module of its own.
 *
 * @returns what is wrong, by file; files without a problem are left out
 */
export function typeProblems(files: readonly string[]): Map<string, string[]> {
  const program = ts.createProgram([...files], compilerOptions());
  const problems = new Map<string, string[]>();
  for (const file of files) {
    const found = ts.getPreEmitDiagnostics(program, program.getSourceFile(file)).map(format);
    if (found.length > 0) problems.set(file, found);
  }
  return problems;
}

/** The JavaScript of one file. Alone it cannot know what its package.json says, so it is told to stay an ES module. */
function transpile(file: string): ts.TranspileOutput {
  return ts.transpileModule(readFileSync(file, "utf8"), {
    fileName: file,
    reportDiagnostics: true,
    compilerOptions: {
      ...compilerOptions(),
      allowJs: true,
      inlineSourceMap: true,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
    },
  });
}

/** What the parser has to say about a file. */
export function syntaxProblems(file: string): string[] {
  return (transpile(file).diagnostics ?? []).map(format);
}

/** The JavaScript of a file; TypeScript is stripped of its types. */
function executable(file: string): string {
  if (!file.endsWith(".ts")) return file;
  const output = file.replace(/ts$/, "js");
  writeFileSync(output, transpile(file).outputText);
  return output;
}

const execute = promisify(execFile);

export interface RunSettings {
  readonly timeoutMs?: number;
  /** Has the launcher start as many processes, each with its rank. */
  readonly ranks?: number | undefined;
}

/**
 * Runs a file as an ES module in a process of its own, or in one per rank.
 *
 * @returns what went wrong: another exit code than 0, no end in time, or output on standard error
 */
export async function runProblem(
  file: string,
  { timeoutMs = 20_000, ranks }: RunSettings = {},
): Promise<string | undefined> {
  const args = ["--enable-source-maps"];
  if (ranks !== undefined) {
    const launcher = programOf("@moe-a2a/sglang") as string;
    args.splice(0, 1, launcher, "run", `--ranks=${ranks}`, `--node-arg=${args[0]}`);
  }
  try {
    const { stderr } = await execute(process.execPath, [...args, executable(file)], {
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    return stderr === "" ? undefined : `wrote to standard error:\n${stderr}`;
  } catch (error) {
    const { killed, code, stderr } = error as { killed: boolean; code: unknown; stderr: string };
    return killed ? `did not end within ${timeoutMs} ms` : `ended with exit code ${code}:\n${stderr}`;
  }
}
