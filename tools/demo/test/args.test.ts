import { describe, expect, it } from "vitest";
import { HELP, readArgs } from "../src/args.js";

describe("readArgs", () => {
  it("has defaults", () => {
    expect(readArgs([])).toEqual({
      kind: "run",
      options: {
        ranks: 4,
        processes: false,
        requests: 32,
        seed: 1,
        backend: "auto",
        layers: 4,
        experts: 16,
        topK: 2,
        fault: undefined,
      },
    });
  });

  it("reads every flag", () => {
    const flags =
      "--ranks 3 --processes --requests=5 --seed 0 --backend js --layers 1 --experts 17 --top-k 3 --inject-fault combine";
    expect(readArgs(flags.split(" "))).toEqual({
      kind: "run",
      options: {
        ranks: 3,
        processes: true,
        requests: 5,
        seed: 0,
        backend: "js",
        layers: 1,
        experts: 17,
        topK: 3,
        fault: "combine",
      },
    });
  });

  it("gives every rank an expert by default", () => {
    const parsed = readArgs(["--ranks", "20"]);
    expect(parsed.kind === "run" && parsed.options.experts).toBe(20);
  });

  it("keeps top-k within the experts by default", () => {
    const parsed = readArgs(["--ranks", "1", "--experts", "1"]);
    expect(parsed.kind === "run" && parsed.options.topK).toBe(1);
  });

  it("asks for help", () => {
    expect(readArgs(["--help", "--ranks", "0"])).toEqual({ kind: "help" });
    expect(HELP).toMatch(/--ranks.*--processes.*--requests.*--seed.*--backend/s);
  });

  it.each([
    [["--ranks", "0"], '--ranks is "0"; it must be an integer from 1 to 64'],
    [["--ranks", "65"], '--ranks is "65"; it must be an integer from 1 to 64'],
    [["--ranks", "2.5"], '--ranks is "2.5"; it must be an integer from 1 to 64'],
    [["--requests", ""], '--requests is ""; it must be an integer from 1 to 10000'],
    [["--requests=-1"], '--requests is "-1"; it must be an integer from 1 to 10000'],
    [["--seed", "1e3"], '--seed is "1e3"; it must be an integer from 0 to 2147483647'],
    [["--backend", "rocm"], '--backend is "rocm"; it must be one of auto, js, cuda'],
    [["--experts", "3"], '--experts is "3"; it must be an integer from 4 to 512'],
    [["--top-k", "17"], '--top-k is "17"; it must be an integer from 1 to 16'],
    [["--inject-fault", "x"], '--inject-fault is "x"; it must be one of combine, worker'],
    [["--rank", "4"], "Unknown option '--rank'"],
    [["--processes=4"], "Option '--processes' does not take an argument"],
    [["--ranks"], "Option '--ranks <value>' argument missing"],
    [["4"], "Unexpected argument '4'"],
  ])("refuses %j", (args, message) => {
    const parsed = readArgs(args);
    expect(parsed.kind === "error" && parsed.message).toContain(message);
  });
});
