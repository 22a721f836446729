import { type CpuTensor, createLocalGroup, tensor } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { jsBackend } from "../src/index.js";
import { expectNoUnhandledRejections } from "./unhandled.js";
import { createLocal, dispatchIds, exactRound } from "./world.js";

expectNoUnhandledRejections();

describe("a caller's slips", () => {
  it("of null are refused, or are as if nothing had been said", async () => {
    const config = { epSize: 1, numExperts: 1, topK: 1, maxTokensPerRank: 2 };
    const bytes = { maxDispatchBytesPerToken: 4, maxCombineBytesPerToken: 4 };
    const a2a = await jsBackend.create({ ...config, ...bytes }, createLocalGroup(1)[0]!, null as never);
    const refused = expect.objectContaining({ argument: "runtimeMaxTokensPerRank" });
    expect(() => dispatchIds(a2a, [0], { runtimeMaxTokensPerRank: null as never })).toThrow(refused);
    const message = expect.stringContaining("rank 0: timeoutMs is null");
    await expect(a2a.reset({ timeoutMs: null as never })).rejects.toMatchObject({ message });
    await a2a.reset(null as never);
    await a2a.close();
  });

  it("in a signal are refused, and leave nothing behind", async () => {
    const { a2as } = await createLocal(2);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    for (const signal of [{}, null, "stop", { addEventListener() {} }]) {
      await expect(dispatch.ready({ signal: signal as never })).rejects.toMatchObject({
        code: "ERR_MOE_A2A_ARGUMENT",
        argument: "options.signal",
      });
    }
    const other = dispatchIds(a2as[1]!, [0]);
    await Promise.all([dispatch.ready(), other.ready()]);
  });

  it("in what a signal does end no other wait", async () => {
    const { a2as } = await createLocal(2);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    const fail = (): never => {
      throw new Error("no listeners");
    };
    const signal = { aborted: false, addEventListener: () => {}, removeEventListener: fail } as never;
    const waits = [dispatch.ready({ signal }), dispatch.ready()];
    const deaf = { aborted: false, addEventListener: fail, removeEventListener: fail } as never;
    await expect(dispatch.ready({ signal: deaf })).rejects.toThrow("no listeners");
    const other = dispatchIds(a2as[1]!, [0]);
    await Promise.all([...waits, other.ready()]);
  });

  it("in the reason of an abort are told to nobody, the abort is", async () => {
    const reasons = [
      Object.assign(new Error("x"), { message: 42 }),
      Object.defineProperty(new Error("x"), "message", {
        get: () => {
          throw new Error("at a reading");
        },
      }),
    ];
    for (const reason of reasons) {
      const { a2as } = await createLocal(2);
      const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0]));
      a2as[0]!.abort(reason);
      for (const dispatch of dispatches)
        await expect(dispatch.ready()).rejects.toMatchObject({ code: "ERR_MOE_A2A_ABORTED", rank: 0 });
      await Promise.all(a2as.map((a2a) => a2a.reset()));
      await exactRound(a2as);
    }
  });

  it("in an output that goes away before the sums are stored are told where they would be", async () => {
    const { a2as } = await createLocal(2);
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0, 4]));
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    const out = tensor("float32", [2, 4]);
    const combine = dispatches[0]!.combine(tensor("float32", [2, 4, 4]), { out });
    structuredClone(out.data.buffer, { transfer: [out.data.buffer as ArrayBuffer] });
    const other = dispatches[1]!.combine(tensor("float32", [2, 4, 4]));
    const refused = { code: "ERR_MOE_A2A_ARGUMENT", argument: "out" };
    await expect(combine.ready()).rejects.toMatchObject(refused);
    await other.ready();
    await exactRound(a2as);
  });

  it("in an array that names a length of its own are refused", async () => {
    const { a2as } = await createLocal(1);
    class Longer extends Uint8Array {
      override get length(): number {
        return 64;
      }
    }
    const rows = { ...tensor("uint8", [1, 8]), shape: [1, 64], data: new Longer(8) } as never;
    const ids = tensor("int32", [1, 1], [0]);
    const input = { numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [rows] };
    expect(() => a2as[0]!.dispatch(input)).toThrow(
      expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: "payloads[0]" }),
    );
    await exactRound(a2as);
  });

  it("in lists that have a length of billions are refused at once", async () => {
    const { a2as } = await createLocal(1);
    const a2a = a2as[0]!;
    const holes = Object.assign([], { length: 2 ** 32 - 1 }) as never;
    const ids = tensor("int32", [1, 1], [0]);
    const input = { numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [ids] };
    const refused = (argument: string) => expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument });
    expect(() => a2a.dispatch({ ...input, payloads: holes })).toThrow(refused("payloads"));
    const long = { ...ids, shape: holes };
    expect(() => a2a.dispatch({ ...input, payloads: [long] })).toThrow(refused("payloads[0]"));
    expect(() => a2a.empty("int32", holes)).toThrow(refused("shape"));
    expect(() => tensor("int32", holes)).toThrow(refused("shape"));
    await expect(a2a.write(long, ids.data)).rejects.toEqual(refused("t"));
    await expect(a2a.read(long)).rejects.toEqual(refused("t"));
    for (const activeRanks of [holes, [holes], [Symbol("s")], [1n]] as never[])
      await expect(a2a.reset({ activeRanks })).rejects.toEqual(refused("activeRanks"));
    await exactRound(a2as);
  });

  it("in arrays that go away while later arguments are read leave the instance as it was", async () => {
    const { a2as } = await createLocal(1);
    const a2a = a2as[0]!;
    const take = ({ data }: CpuTensor): undefined => {
      structuredClone(data.buffer, { transfer: [data.buffer as ArrayBuffer] });
    };
    const refused = (argument: string) => expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument });
    for (const argument of ["tokenSelectedExperts", "payloads"] as const) {
      const ids = tensor("int32", [1, 1], [0]);
      const rows = tensor("float32", [1, 4]);
      const input = {
        numLocalTokens: 1,
        tokenSelectedExperts: ids,
        payloads: [rows],
        get stream() {
          return take(argument === "payloads" ? rows : ids);
        },
      };
      expect(() => a2a.dispatch(input as never)).toThrow(refused(argument));
      await exactRound(a2as);
    }
    const dispatch = dispatchIds(a2a, [0]);
    await dispatch.ready();
    const results = tensor("float32", [1, 4, 4]);
    const out = { ...tensor("float32", [1, 4]) };
    Object.defineProperty(out, "shape", { get: () => take(results) ?? [1, 4] });
    expect(() => dispatch.combine(results, { out })).toThrow(refused("expertOutput"));
    await dispatch.combine(tensor("float32", [1, 4, 4])).ready();
    await exactRound(a2as);
  });

  it("in tensors that are another at each reading are read once", async () => {
    const { a2as } = await createLocal(1);
    const changing = (): CpuTensor => {
      let reads = 0;
      const { data, ...rest } = tensor("float32", [2], [1, 2]);
      return Object.defineProperty({ ...rest, data }, "data", {
        get: () => (reads++ === 0 ? data : new Float32Array(1)),
      });
    };
    expect(await a2as[0]!.read(changing())).toEqual(Float32Array.of(1, 2));
    await a2as[0]!.write(changing(), Float32Array.of(3, 4));
    let reads = 0;
    const shape = Object.defineProperty([2], 0, { get: () => (reads++ === 0 ? 2 : { length: -1 }) });
    expect(a2as[0]!.empty("float32", shape).shape).toEqual([2]);
  });

  it("in getters that throw or call back leave the instance as it was", async () => {
    const { a2as } = await createLocal(2, { maxExpertStats: 2 });
    const ids = tensor("int32", [1, 1], [0]);
    const good = { numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [tensor("float32", [1, 4])] };
    const boom = new Error("boom");
    /** The property works `reads` times, then throws. */
    const spent = (target: object, property: string, reads: number): object => {
      let left = reads;
      return new Proxy(target, {
        get(of, key, receiver) {
          if (key === property && left-- === 0) throw boom;
          return Reflect.get(of, key, receiver);
        },
      });
    };
    for (const property of ["numLocalTokens", "tokenSelectedExperts", "payloads", "expertStats", "lane"]) {
      for (let reads = 0; reads < 3; reads++) {
        const input = spent({ ...good, expertStats: tensor("int32", [2]) }, property, reads) as typeof good;
        let dispatch: ReturnType<(typeof a2as)[0]["dispatch"]> | undefined;
        try {
          dispatch = a2as[0]!.dispatch(input);
        } catch (error) {
          expect(error).toBe(boom);
        }
        // It was read once: what came after the check did not matter, or nothing was sent.
        if (dispatch) {
          const peer = a2as[1]!.dispatch({ ...good, expertStats: tensor("int32", [2]) });
          await Promise.all([dispatch.ready(), peer.ready()]);
          for (const round of [dispatch, peer]) void round.combine(tensor("float32", [2, 4, 4])).ready();
        }
      }
    }
    await exactRound(a2as);
    const again = {
      ...good,
      get payloads() {
        dispatchIds(a2as[0]!, [0]);
        return good.payloads;
      },
    };
    expect(() => a2as[0]!.dispatch(again)).toThrowError(expect.objectContaining({ state: "busy" }));
    expect(() =>
      a2as[0]!.dispatch({
        ...good,
        payloads: [
          { ...good.payloads[0]!, data: { length: 4, [Symbol.toStringTag]: "Float32Array" } as never },
        ],
      }),
    ).toThrowError(/has data that is/);
  });

  it("in arguments that were right in the round before are found all the same", async () => {
    const { a2as } = await createLocal(1);
    const a2a = a2as[0]!;
    const ids = { ...tensor("int32", [0, 1]), shape: [0, 1] };
    const rows = { ...tensor("float32", [0, 4]), shape: [0, 4] };
    const input = { numLocalTokens: 0, tokenSelectedExperts: ids, payloads: [rows] };
    const output = tensor("float32", [1, 4, 4]);
    const round = async (): Promise<void> => {
      const dispatch = a2a.dispatch(input);
      await dispatch.ready();
      await dispatch.combine(output).ready();
    };
    const refused = (argument: string) => expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument });
    const wrong: [string, object, object][] = [
      ["payloads[0]", rows, { shape: [1, 4] }],
      ["payloads[0]", rows, { shape: undefined }],
      ["payloads[0]", rows, { shape: Object.freeze([0, 4, 1]) }],
      ["payloads[0]", rows, { dtype: "int64" }],
      ["payloads[0]", rows, { dtype: undefined }],
      ["payloads[0]", rows, { data: new Float32Array(1) }],
      ["payloads[0]", rows, { device: undefined }],
      ["payloads", rows, { shape: [0, 6] }],
      ["tokenSelectedExperts", ids, { dtype: "uint8" }],
      ["tokenSelectedExperts", ids, { shape: [0, 2] }],
      ["tokenSelectedExperts", ids, { device: { type: "cuda", id: 0 } }],
    ];
    for (const shape of [[0, 4], Object.freeze([0, 4])]) {
      Object.assign(rows, { shape });
      for (const [argument, target, change] of wrong) {
        await round();
        await round();
        const before = { ...target };
        Object.assign(target, change);
        expect(() => a2a.dispatch(input), JSON.stringify(change)).toThrow(refused(argument));
        Object.assign(target, before);
      }
    }
    const grown = { ...rows, shape: [0, 4] };
    const other = { ...input, payloads: [grown] };
    await round();
    grown.shape[0] = 1;
    expect(() => a2a.dispatch(other)).toThrow(refused("payloads[0]"));
    await round();
  });

  it("in recvCounts do not reach the combine", async () => {
    const { a2as } = await createLocal(2);
    for (const value of [5, 9]) {
      const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0, 4]));
      await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
      const combines = dispatches.map((dispatch) => {
        (dispatch.recvCounts.data as Int32Array).fill(0);
        return dispatch.combine(tensor("float32", [2, 4, 4], new Float32Array(32).fill(value)));
      });
      await Promise.all(combines.map((combine) => combine.ready()));
      for (const combine of combines) expect([...combine.output.data]).toEqual(new Array(8).fill(value));
    }
  });

  it("with buffers transferred away do not stop a failure from being told", async () => {
    const { a2as } = await createLocal(2, { roundsInFlight: 2 });
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0]));
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    const out = tensor("float32", [1, 4]);
    const combine = dispatches[0]!.combine(dispatches[0]!.recv[0] as CpuTensor, { out });
    const second = dispatchIds(a2as[0]!, [0]);
    structuredClone(out.data.buffer, { transfer: [out.data.buffer as ArrayBuffer] });
    await a2as[0]!.close();
    await expect(combine.ready()).rejects.toMatchObject({ state: "closed" });
    await expect(second.ready()).rejects.toMatchObject({ state: "closed" });
  });
});

describe("an AbortSignal", () => {
  it("abandons only that wait", async () => {
    const { a2as } = await createLocal(2);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    const controller = new AbortController();
    const abandoned = expect(dispatch.ready({ signal: controller.signal })).rejects.toBe("enough");
    controller.abort("enough");
    await abandoned;
    await expect(dispatch.ready({ signal: controller.signal })).rejects.toBe("enough");
    const other = dispatchIds(a2as[1]!, [0]);
    await Promise.all([dispatch.ready(), other.ready()]);
    expect([...dispatch.recvCounts.data]).toEqual([1, 1]);
  });
});

describe("readySync", () => {
  it("is refused where ranks share the thread", async () => {
    const { a2as } = await createLocal(1);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    expect(() => dispatch.readySync()).toThrowError(
      expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: "local" }),
    );
    await dispatch.ready();
  });
});
describe("the event loop", () => {
  it("takes its turns, though every round finds its peers there", async () => {
    const { a2as } = await createLocal(2);
    let stopped = false;
    setTimeout(() => {
      stopped = true;
    }, 30);
    let rounds = 0;
    while (!stopped && rounds < 1_000_000) {
      const dispatches = a2as.map((a2a) => dispatchIds(a2a, []));
      await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
      await Promise.all(dispatches.map((dispatch) => dispatch.combine(tensor("float32", [2, 4, 4])).ready()));
      rounds++;
    }
    expect(stopped).toBe(true);
  });
});
