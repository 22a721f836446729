import { join } from "node:path";
import { judge, parseJson, type Step, type StepContext } from "../step.js";

/** The command `moe-a2a` of the bundled package. */
export const cli = (context: StepContext): string =>
  join(context.bundle, "app/node_modules/@moe-a2a/sglang/dist/cli.js");

/** What `moe-a2a doctor --json` prints, as far as it is looked at. */
interface Diagnosis {
  readonly problems?: readonly string[];
  readonly backends?: readonly {
    readonly name: string;
    readonly status: { readonly available: boolean; readonly reason?: string };
    readonly round?: { readonly exact: boolean; readonly ranks: number; readonly ms: number };
  }[];
  readonly gpus?: {
    readonly source?: string;
    readonly driver?: string;
    readonly cuda?: string;
    readonly devices?: readonly { readonly name: string }[];
    readonly links?: readonly (readonly string[])[];
    readonly peerAccess?: readonly (readonly string[])[];
    readonly peerAtomics?: readonly (readonly string[])[];
  };
}

/** What the doctor has to say of a machine with so many GPUs; empty where it says that. */
function missing({ problems = [], backends = [], gpus }: Diagnosis, count: number): string[] {
  const cuda = backends.find(({ name }) => name === "cuda");
  const found = gpus?.devices?.length ?? 0;
  const wrong = [...problems];
  if (!cuda?.status.available) wrong.push(`cuda is not available: ${cuda?.status.reason ?? "not named"}`);
  if (found !== count) wrong.push(`it lists ${found} GPUs, and there are ${count}`);
  // The driver's own tool is asked only where CUDA has shown none.
  if (gpus?.source !== "cuda") wrong.push(`its GPUs come from ${gpus?.source ?? "nobody"}, not from cuda`);
  if (!gpus?.driver) wrong.push("it names no driver");
  if (!cuda?.round?.exact)
    wrong.push(`its round on cuda ${cuda?.round ? "was not exact" : "was not played"}`);
  return wrong;
}

/** What the doctor makes of the machine: it finds all that users are told to look at. */
export const doctor: Step = {
  limit: 60,
  async run(context, limit) {
    const result = await context.exec.run(process.execPath, [cli(context), "doctor", "--json"], limit);
    const outcome = judge(result);
    const diagnosis = parseJson(result.stdout) as Diagnosis | undefined;
    if (diagnosis === undefined) {
      return outcome.status === "passed" ? { status: "failed", detail: "it printed no JSON" } : outcome;
    }
    const { problems, backends, gpus } = diagnosis;
    const figures = {
      problems,
      driver: gpus?.driver,
      cuda: gpus?.cuda,
      gpus: gpus?.devices?.map(({ name }) => name),
      links: gpus?.links,
      peerAccess: gpus?.peerAccess,
      peerAtomics: gpus?.peerAtomics,
      rounds: backends?.map(({ name, round }) => ({ name, ...round })),
    };
    const wrong = missing(diagnosis, context.gpus);
    if (wrong.length === 0) return { ...outcome, figures };
    // The end of its output is the end of its JSON, which says little.
    const status = outcome.status === "passed" ? "failed" : outcome.status;
    return { status, detail: wrong.join("\n"), figures };
  },
};
