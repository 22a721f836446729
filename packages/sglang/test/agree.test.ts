import { isMoeA2AError } from "@moe-a2a/core";
import { describe, expect, test } from "vitest";
import { agree, type Claim, decodeClaims, encodeClaim } from "../src/agree.js";

const can: Claim = { preference: "auto", cudaProblem: null, cudaProcess: "host 1" };
const lacks: Claim = { ...can, cudaProblem: "@moe-a2a/cuda is not installed", cudaProcess: null };
const noDriver: Claim = { ...can, cudaProblem: "no driver" };
const wantsCuda: Claim = { ...can, preference: "cuda" };
const wantsInVain: Claim = { ...noDriver, preference: "cuda" };
const wantsJs: Claim = { preference: "js", cudaProblem: null, cudaProcess: null };

describe("agree", () => {
  test.each([
    ["all can", [can, can], "cuda", "cuda can run on every rank"],
    [
      "all can, one insists",
      [can, wantsCuda],
      "cuda",
      "cuda was asked for by rank 1 and can run on every rank",
    ],
    [
      "one lacks it",
      [can, can, noDriver],
      "js",
      "js on every rank, as cuda cannot run on rank 2 (no driver)",
    ],
    [
      "several lack it, for two reasons",
      [lacks, noDriver, lacks, can],
      "js",
      "js on every rank, as cuda cannot run on ranks 0, 2 (@moe-a2a/cuda is not installed), rank 1 (no driver)",
    ],
    ["one insists on JS", [can, wantsJs, can], "js", "js was asked for by rank 1"],
    ["all insist on JS", [wantsJs, wantsJs], "js", "js was asked for by ranks 0, 1"],
    [
      "one insists on CUDA, another lacks it",
      [wantsCuda, lacks],
      undefined,
      "rank 0 asked for cuda, and cuda cannot run on rank 1 (@moe-a2a/cuda is not installed)",
    ],
    [
      "one insists on CUDA and lacks it",
      [can, wantsInVain],
      undefined,
      "rank 1 asked for cuda, and cuda cannot run on rank 1 (no driver)",
    ],
  ] as const)("%s", (_, claims, backend, reason) => {
    expect(agree(claims)).toMatchObject({ backend, reason });
  });

  test("refuses preferences that contradict each other, naming each rank's", () => {
    try {
      agree([wantsCuda, wantsJs, lacks]);
      expect.unreachable();
    } catch (e) {
      if (!isMoeA2AError(e, "ERR_MOE_A2A_CONFIG")) throw e;
      expect(e.field).toBe("backend");
      expect(e.value).toEqual(["cuda", "js", "auto"]);
      expect(e.message).toMatchInlineSnapshot(
        `"the ranks ask for different backends: rank 0 for "cuda", rank 1 for "js", rank 2 for "auto"; give createMoeAllToAll() the same options.backend on every rank"`,
      );
    }
  });
});

test("claims travel, and anything else is refused", () => {
  const claims = [can, wantsInVain];
  expect(decodeClaims(claims.map(encodeClaim))).toEqual(claims);
  const strangers = [encodeClaim(can), new TextEncoder().encode('{"version":2}')];
  expect(() => decodeClaims(strangers)).toThrowErrorMatchingInlineSnapshot(
    `[MoeA2AError: createMoeAllToAll(): rank 1 sent "{\\"version\\":2}" where its backend was expected; run the same version of @moe-a2a/sglang on every rank]`,
  );
  expect(() => decodeClaims([new Uint8Array([255, 0])])).toThrow(
    expect.objectContaining({ code: "ERR_MOE_A2A_MISMATCH" }),
  );
});
