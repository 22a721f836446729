import { combineBytesPerToken, dispatchBytesPerToken, selectBackend } from "@moe-a2a/sglang";
import type { Options } from "../args.js";
import { FIXED_SHAPE, type ModelShape } from "../model/shape.js";
import type { RankInput, RankSummary } from "../rank/protocol.js";
import { countSteps } from "../scheduler.js";
import { answerText, makeRequests } from "../text/requests.js";
import { openView } from "../view/view.js";
import { inProcesses } from "./processes.js";
import { runRanks } from "./ranks.js";
import { addUp, answersChecksum, type RunResult } from "./result.js";
import { onThreads } from "./threads.js";

/** Tokens that a rank runs in a step at most, and so the capacity of the all-to-all. */
const TOKENS_PER_STEP = 96;

/** Serves all requests, showing how it goes on `out`. */
export async function runJob(options: Options, out: NodeJS.WriteStream): Promise<RunResult> {
  const { ranks, seed, layers, experts, topK, fault } = options;
  const { backend, reason } = await selectBackend(options.backend);
  const shape: ModelShape = { ...FIXED_SHAPE, layers, experts, topK };
  const requests = makeRequests(options.requests, ranks, seed);
  const requestsByRank = Array.from({ length: ranks }, (_, rank) => requests.filter((r) => r.rank === rank));
  const tokenForm = { hiddenSize: shape.hidden, dtype: "bfloat16" } as const;
  const config = {
    epSize: ranks,
    numExperts: experts,
    topK,
    maxTokensPerRank: TOKENS_PER_STEP,
    maxDispatchBytesPerToken: dispatchBytesPerToken({ ...tokenForm, topK }),
    maxCombineBytesPerToken: combineBytesPerToken(tokenForm),
  };
  const inputs = requestsByRank.map(
    (own, rank): RankInput => ({
      rank,
      config,
      backend: backend.name,
      shape,
      seed,
      requests: own,
      fault: rank === requests[0]!.rank ? fault : undefined,
    }),
  );
  const starts = options.processes ? await inProcesses(inputs) : onThreads(inputs);

  const answers = new Map<number, Int32Array>();
  const started = performance.now();
  const view = openView(out, ranks, countSteps(requestsByRank, TOKENS_PER_STEP));
  let summaries: RankSummary[];
  try {
    view.header([
      `${options.requests} requests from Moby-Dick on ${ranks} ranks, at most ${TOKENS_PER_STEP} tokens per rank and step, seed ${seed}`,
      `model: ${layers} layers, ${experts} experts, top-${topK}, hidden ${shape.hidden}, bfloat16`,
      `backend: ${backend.name} (${reason})`,
    ]);
    summaries = await runRanks(starts, (message) => {
      if (message.kind === "step") view.step(message.step, message.tokensByRank);
      if (message.kind === "answer") {
        answers.set(message.request, message.tokens);
        view.answer(requests[message.request]!, answerText(message.tokens));
      }
    });
  } finally {
    view.close();
  }
  const result = addUp(summaries, answers, requests.length, backend.name);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  out.write(
    `${result.tokens} tokens in ${seconds} s; ${result.compared} rows compared bit for bit\n` +
      `answers checksum ${answersChecksum(answers)}\n`,
  );
  return result;
}
