import { type MissingKind, MoeA2AError, missingError } from "@moe-a2a/core";
import { ELSEWHERE, type ShareError } from "./native.js";
import { MISSING_KINDS } from "./outcome.js";
import type { Peers } from "./peers.js";
import type { Runtime } from "./runtime.js";

/** Where the windows of all ranks lie, by rank. */
export interface Windows {
  readonly addresses: BigUint64Array;
  /** The GPU of each, as numbered in this process. */
  readonly devices: Int32Array;
}

/** Tells the other ranks where this rank's window lies, and hears where theirs do; maps those of other processes. */
export async function exchangeWindows(
  runtime: Runtime,
  id: number,
  peers: Peers,
  window: bigint,
  timeoutMs: number,
): Promise<Windows> {
  if (peers.areElsewhere) return mapWindows(runtime, id, peers, timeoutMs);
  const addresses = BigUint64Array.from(await peers.gatherWindows(window, timeoutMs));
  return { addresses, devices: Int32Array.from(peers.introductions, ({ device }) => device) };
}

/** How a rank in another process gets this one's window. */
interface Offer {
  readonly name: string;
  /** Hexadecimal. */
  readonly token: string;
}

async function mapWindows(
  { native, tokens }: Runtime,
  id: number,
  peers: Peers,
  timeoutMs: number,
): Promise<Windows> {
  const { rank, introductions } = peers;
  const { name, token } = native.openShare(id);
  const mine: Offer = { name, token: Buffer.from(token).toString("hex") };
  const offers = await peers.gatherWindows(mine, timeoutMs);
  const names = offers.map((offer) => offer.name);
  const secrets = Buffer.concat(offers.map((offer) => Buffer.from(offer.token, "hex")));
  try {
    await tokens.end(native.shareWindows(id, names, secrets, timeoutMs));
  } catch (error) {
    throw missingRanks(error, rank, introductions.length, timeoutMs);
  }
  peers.watch(() => {
    const [closed, lost] = native.lookForPeers(id);
    return { closed: closed!, lost: lost! };
  });
  const devices = introductions.map(({ device }, r) => (r === rank ? device : ELSEWHERE));
  return { addresses: native.sharedWindows(id), devices: Int32Array.from(devices) };
}

/** Where ranks did not come for the windows: which, as everywhere. */
function missingRanks(error: unknown, rank: number, ranks: number, timeoutMs: number): unknown {
  const { missingMask, missingKind } = error as Partial<ShareError>;
  if (missingMask === undefined || missingKind === undefined) return error;
  const missing = Array.from({ length: ranks }, (_, r) => r).filter((r) => (missingMask >> BigInt(r)) & 1n);
  const kind: MissingKind = MISSING_KINDS[missingKind] ?? "timeout";
  return missingError({
    phase: "create",
    round: 0,
    missingRanks: missing,
    kind,
    timeoutMs,
    rank,
    where: "create",
  });
}

/** @throws ERR_MOE_A2A_UNAVAILABLE where ranks are on several hosts */
export function checkOneHost(peers: Peers): void {
  const hosts = peers.introductions.map(({ host }) => host);
  const others = hosts.flatMap((host, rank) => (host === hosts[0] ? [] : [rank]));
  if (others.length === 0) return;
  const reason = `ranks ${others.join(", ")} are on another host than rank 0`;
  const hint = "the ranks of a CUDA instance have to be on one host; the js backend runs on several";
  throw new MoeA2AError("ERR_MOE_A2A_UNAVAILABLE", `create(): ${reason}; ${hint}`, { reason, hint });
}
