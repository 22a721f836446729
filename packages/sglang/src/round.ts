import {
  byteLengthOf,
  type Combine,
  type CombineDType,
  type Dispatch,
  type DispatchReport,
  describe,
  type MoeAllToAll,
  type Tensor,
} from "@moe-a2a/core";
import { argumentError, checkTensor, isTensor } from "./check.js";
import type { DispatchOptions } from "./dispatcher-options.js";
import type { FlashinferCombineInput, FlashinferDispatchOutput } from "./formats.js";
import { enqueueTraced } from "./observe/device-time.js";
import { PhaseTrace } from "./observe/phase-trace.js";
import { type QuantConfig, quantizeRows } from "./quant.js";
import { reshape } from "./reshape.js";
import { slotsPerRank } from "./slots.js";
import { isStandardTopKOutput, type StandardTopKOutput, type TopKOutput } from "./topk.js";

/** What a dispatcher was made with. */
export interface RoundSettings<T extends Tensor> {
  readonly a2a: MoeAllToAll<T>;
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
  readonly invalidTokenExpertId: number;
  readonly combineInPlace: boolean;
  readonly lane: 0 | 1 | undefined;
}

/** A round in flight. */
export interface Round<T extends Tensor> {
  readonly dispatch: Dispatch<T>;
  readonly rows: number;
  readonly slots: number;
  readonly scaled: boolean;
  /** A GPU's results may be used at once, in stream order; on the CPU they have to have arrived. */
  readonly waits: boolean;
  /** Of the phase that is under way, where somebody listens. */
  trace: PhaseTrace | undefined;
  report: DispatchReport | undefined;
  combine: Combine<T> | undefined;
}

/** Sends hidden states, [scales], ids and weights, in this order. */
export function sendTokens<T extends Tensor>(
  where: string,
  settings: RoundSettings<T>,
  quantConfig: QuantConfig<T>,
  hiddenStates: T,
  topkOutput: TopKOutput<T>,
  options: DispatchOptions,
): Round<T> {
  const { epRank, config } = settings.a2a;
  const trace = PhaseTrace.start("dispatch", epRank, config.epSize, knownLane(settings));
  try {
    return send(where, settings, quantConfig, hiddenStates, topkOutput, options, trace);
  } catch (error) {
    trace?.refused(error);
    throw error;
  }
}

function send<T extends Tensor>(
  where: string,
  settings: RoundSettings<T>,
  quantConfig: QuantConfig<T>,
  hiddenStates: T,
  topkOutput: TopKOutput<T>,
  options: DispatchOptions,
  trace: PhaseTrace | undefined,
): Round<T> {
  const { a2a, hiddenSize, dtype, invalidTokenExpertId, lane } = settings;
  const { topK, maxTokensPerRank } = a2a.config;
  checkTensor(where, "hiddenStates", hiddenStates, dtype, ["L", hiddenSize]);
  const rows = hiddenStates.shape[0]!;
  const { topkIds, topkWeights } = standardTopK(where, topkOutput);
  checkTensor(where, "topkOutput.topkIds", topkIds, "int32", [rows, topK]);
  checkTensor(where, "topkOutput.topkWeights", topkWeights, "float32", [rows, topK]);
  const slots = slotsPerRank(where, rows, maxTokensPerRank, options);
  const sent = quantizeRows(where, quantConfig, hiddenStates, (d, shape) => a2a.empty(d, shape));
  const states =
    sent.hiddenStatesScale === undefined ? [sent.hiddenStates] : [sent.hiddenStates, sent.hiddenStatesScale];
  // Before anything is sent, as reading it may throw.
  const waits = hiddenStates.device.type === "cpu";
  const payloads = [...states, topkIds, topkWeights];
  const bytes = trace === undefined ? 0 : payloads.reduce((sum, t) => sum + rowBytes(t), 0);
  const input = {
    numLocalTokens: rows,
    tokenSelectedExperts: topkIds,
    payloads,
    runtimeMaxTokensPerRank: slots,
    expertIdPayloadIndex: states.length,
    invalidTokenExpertId,
    ...(lane === undefined ? {} : { lane }),
  };
  const dispatch =
    trace === undefined ? a2a.dispatch(input) : enqueueTraced(a2a, trace, () => a2a.dispatch(input));
  const scaled = states.length > 1;
  const round: Round<T> = {
    dispatch,
    rows,
    slots,
    scaled,
    waits,
    trace,
    report: undefined,
    combine: undefined,
  };
  if (trace !== undefined) {
    trace.enqueued({ tokens: rows, slots, rowBytes: bytes });
    if (!waits) {
      trace.follow(dispatch, (result) => {
        round.report = result as DispatchReport;
        return round.report;
      });
    }
  }
  return round;
}

/** The lane of a round that has not begun, where there is no choice. */
function knownLane<T extends Tensor>({ a2a, lane }: RoundSettings<T>): 0 | 1 | undefined {
  return lane ?? (a2a.config.roundsInFlight === 2 ? undefined : 0);
}

function rowBytes({ dtype, shape }: Tensor): number {
  return byteLengthOf(dtype, [1, ...shape.slice(1)]);
}

/** Offers the experts' results, and starts to sum this rank's own into `out`, or into a new tensor. */
export function startCombine<T extends Tensor>(
  settings: RoundSettings<T>,
  round: Round<T>,
  expertOutput: T,
  out: T | undefined,
): void {
  const { a2a, hiddenSize, dtype } = settings;
  const { rows: tokens, slots, waits, report } = round;
  const lane = report?.lane ?? knownLane(settings);
  const trace = PhaseTrace.start("combine", a2a.epRank, a2a.config.epSize, lane, report?.round);
  try {
    // Memory of the plan would be overwritten by the next layer while the framework still holds this one's result.
    const fresh = out ?? a2a.empty(dtype, [tokens, hiddenSize]);
    const rowBytes = trace === undefined ? 0 : byteLengthOf(expertOutput.dtype, [hiddenSize]);
    const start = () => round.dispatch.combine(expertOutput, { out: fresh });
    const combine = trace === undefined ? start() : enqueueTraced(a2a, trace, start);
    round.combine = combine;
    round.trace = trace;
    trace?.enqueued({ tokens, slots, rowBytes });
    if (!waits) trace?.follow(combine, () => round.report);
  } catch (error) {
    trace?.refused(error);
    throw error;
  }
}

/** Waits for the phase of the round that is under way where it has to have arrived; on a GPU it does not. */
export function arrival<T extends Tensor>(round: Round<T>): Promise<unknown> | undefined {
  if (!round.waits) return undefined;
  const { trace, dispatch, combine } = round;
  if (trace === undefined) return (combine ?? dispatch).ready();
  // A caller whose hook threw comes again.
  round.trace = undefined;
  return tracedArrival(round, trace);
}

async function tracedArrival<T extends Tensor>(round: Round<T>, trace: PhaseTrace): Promise<void> {
  try {
    // Known already where the phase is a combine.
    round.report ??= await round.dispatch.ready();
    await round.combine?.ready();
  } catch (error) {
    trace.failed(error);
    throw error;
  }
  trace.arrived(round.report);
}

function standardTopK<T extends Tensor>(where: string, topkOutput: TopKOutput<T>): StandardTopKOutput<T> {
  const output = topkOutput?.format === "bypassed" ? topkOutput.toStandard() : topkOutput;
  if (typeof output === "object" && output !== null && isStandardTopKOutput(output)) return output;
  throw argumentError(
    "topkOutput",
    `${where}: topkOutput ${formatOf(output)}; it must be "standard", or "bypassed" with a toStandard() that makes it so`,
  );
}

/** The received tokens, as views of the window. */
export function receivedTokens<T extends Tensor>(
  { a2a, hiddenSize, dtype, combineInPlace }: RoundSettings<T>,
  { dispatch, slots, scaled }: Round<T>,
): FlashinferDispatchOutput<T> {
  const flat = (t: T): T => reshape(t, [a2a.config.epSize * slots, t.shape[2]!]);
  const recv = dispatch.recv.map(flat);
  const [topkIds, topkWeights] = recv.slice(-2) as [T, T];
  return {
    format: "flashinfer",
    hiddenStates: recv[0]!,
    hiddenStatesScale: scaled ? recv[1] : undefined,
    topkOutput: { format: "standard", topkWeights, topkIds },
    moeOutput: combineInPlace ? flat(dispatch.combineBuffer(hiddenSize, dtype)) : undefined,
    outputDtype: dtype,
    recvCounts: dispatch.recvCounts,
    ready: (options) => dispatch.ready(options),
  };
}

/** The experts' results in the shape that combine takes. */
export function expertOutputOf<T extends Tensor>(
  where: string,
  { a2a, hiddenSize, dtype }: RoundSettings<T>,
  { slots }: Round<T>,
  combineInput: FlashinferCombineInput<T>,
): T {
  if (combineInput?.format !== "flashinfer") {
    throw argumentError(
      "combineInput",
      `${where}: combineInput ${formatOf(combineInput)}; ` +
        'it must be { format: "flashinfer", hiddenStates }, its rows in the slots they were received in',
    );
  }
  const { epSize } = a2a.config;
  const { hiddenStates } = combineInput;
  // Experts may put out a wider dtype than the result has; the all-to-all checks that it can be summed.
  const given = isTensor(hiddenStates) ? hiddenStates.dtype : dtype;
  const byRank = [epSize, slots, hiddenSize];
  const flat = !isTensor(hiddenStates) || hiddenStates.shape.length !== byRank.length;
  const shape = flat ? [epSize * slots, hiddenSize] : byRank;
  checkTensor(where, "combineInput.hiddenStates", hiddenStates, given, shape);
  return flat ? reshape(hiddenStates, byRank) : hiddenStates;
}

function formatOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return `is ${describe(value)}`;
  return `has the format ${describe((value as { format?: unknown }).format)}`;
}
