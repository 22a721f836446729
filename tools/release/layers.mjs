// What a user does with one package: installs it alone into an empty project, and runs what its README shows.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { USER_OPTIONS } from "../user-types.mjs";
import { programsOf, toCommonJs } from "./snippets.mjs";
import { binOf } from "./workspace.mjs";

/** Wrappers of this process may have Node look for packages in more places than the project. */
function cleanEnv(extra) {
  const { NODE_PATH: _, ...env } = process.env;
  return { ...env, ...extra };
}

/**
 * Installs a package, and nothing else, from the registry.
 *
 * @returns the project's folder, or undefined where that fails
 */
export function installLayer(checks, { folder, name, version, npmrc }) {
  const project = join(folder, name.split("/")[1]);
  mkdirSync(project, { recursive: true });
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true }));
  writeFileSync(join(project, ".npmrc"), npmrc);
  const args = ["install", "--ignore-scripts", "--no-audit", "--no-fund", `${name}@${version}`];
  const installed = checks.run(`${name}: npm ${args[0]} alone, without scripts`, "npm", args, {
    cwd: project,
    env: cleanEnv(),
  });
  return installed === undefined ? undefined : project;
}

/** Type-checks an import of the package as its user would. */
export function checkTypes(checks, project, name) {
  writeFileSync(join(project, "types.ts"), `export * as all from "${name}";\n`);
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({ compilerOptions: USER_OPTIONS, files: ["types.ts"] }),
  );
  checks.run(`${name}: its types, without those of Node`, binOf("tsc"), ["-p", project]);
}

/** Runs the README's programs on a Node, as ES modules and as CommonJS. */
export function runReadme(checks, { project, name, readme, node }) {
  for (const { line, ranks, code } of programsOf(readme)) {
    for (const [kind, extension, text] of [
      ["ESM", "mjs", code],
      ["CommonJS", "cjs", toCommonJs(code)],
    ]) {
      const file = join(project, `readme-${line}.${extension}`);
      writeFileSync(file, text);
      const launcher = join(project, "node_modules/@moe-a2a/sglang/dist/cli.js");
      const args = ranks === undefined ? [file] : [launcher, "run", `--ranks=${ranks}`, file];
      const options = { cwd: project, env: cleanEnv(), timeout: 60_000 };
      checks.run(`${name}: README line ${line} as ${kind}, Node ${node.version}`, node.path, args, options);
    }
  }
}

/** Adds another package to a project. */
export function addLayer(checks, project, name, version) {
  const args = ["install", "--ignore-scripts", "--no-audit", "--no-fund", `${name}@${version}`];
  checks.run(`npm install of ${name} beside it`, "npm", args, { cwd: project, env: cleanEnv() });
}

/** Looks at the installation with the doctor that is in it, as `npx` finds it. */
export function askDoctor(checks, project, expected) {
  const args = ["--no-install", "@moe-a2a/sglang", "doctor", "--json"];
  const options = { cwd: project, env: cleanEnv(), timeout: 60_000 };
  const output = checks.run("npx @moe-a2a/sglang doctor", "npx", args, options);
  if (output === undefined) return;
  const { ok, problems, packages } = JSON.parse(output);
  checks.report("the doctor finds no problem", ok, problems.join("\n"));
  const found = packages.filter(({ version }) => version !== undefined).map(({ name }) => name);
  checks.report(
    `the doctor finds ${expected.join(", ")}`,
    found.join() === expected.join(),
    found.join(", "),
  );
}
