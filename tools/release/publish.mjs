// Publishes what `changeset version` has prepared, from the workflow that may. Refuses a release that is not whole.
import { spawnSync } from "node:child_process";
import { nameRepository, releaseProblem } from "./prepare.mjs";
import { binOf, ROOT } from "./workspace.mjs";

const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
const problem =
  GITHUB_SERVER_URL && GITHUB_REPOSITORY
    ? releaseProblem(ROOT)
    : "this is no workflow of GitHub; releases are made by .github/workflows/release.yml";
if (problem !== undefined) {
  console.error(problem);
  process.exit(1);
}
nameRepository(ROOT, `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}`);
const { status } = spawnSync(binOf("changeset"), ["publish"], { cwd: ROOT, stdio: "inherit" });
process.exit(status ?? 1);
