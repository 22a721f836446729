import { afterEach, describe, expect, test } from "vitest";
import { selectBackend } from "../src/index.js";
import { CUDA_MANIFEST, type Installation, install } from "./installation.js";

let installation: Installation | undefined;
afterEach(() => installation?.remove());

/** Selects with each preference in turn, and tells what came out in all three ways. */
const PROGRAM = `
  import { subscribe } from "node:diagnostics_channel";
  import { selectBackend } from "@moe-a2a/sglang";
  const results = [], messages = [], warnings = [];
  subscribe("moe-a2a:select-backend", (message) => messages.push(message));
  process.on("warning", ({ name, code, message }) => warnings.push({ name, code, message }));
  for (const preference of ["auto", undefined, "js", "cuda"]) {
    try {
      const { backend, reason, rejected } = await selectBackend(preference);
      results.push({ backend: backend.name, reason, rejected });
    } catch ({ code, reason, hint, message }) {
      results.push({ code, reason, hint, message });
    }
  }
  await new Promise(setImmediate);
  console.log(JSON.stringify({ results, messages, warnings }));
`;

interface Told {
  results: {
    backend?: string;
    code?: string;
    reason: string;
    rejected?: { name: string; status: { code: string; reason: string; hint: string } }[];
  }[];
  messages: { preference: string; backend?: string; reason: string; rejected: unknown[] }[];
  warnings: { name: string; code: string; message: string }[];
}

async function select(cuda?: Record<string, string>): Promise<Told> {
  installation = await install(cuda);
  return (await installation.run(PROGRAM)) as Told;
}

const withEntry = (index: string) => ({ "package.json": CUDA_MANIFEST, "index.js": index });

describe("@moe-a2a/cuda is not installed", () => {
  test("JS is taken, the result and the channel say why, and nothing is warned about", async () => {
    const reason = "@moe-a2a/cuda is not installed";
    const hint = "npm i @moe-a2a/cuda";
    const status = { available: false, code: "CUDA_NOT_INSTALLED", reason, hint };
    const rejected = [{ name: "cuda", status }];
    const fallback = { backend: "js", reason: `js, as cuda cannot run here: ${reason}`, rejected };
    const askedForJs = { backend: "js", reason: "js was asked for", rejected: [] };
    const message = `the cuda backend was asked for and cannot run: ${reason}; ${hint}`;
    expect(await select()).toEqual({
      results: [fallback, fallback, askedForJs, { code: "ERR_MOE_A2A_UNAVAILABLE", reason, hint, message }],
      messages: [
        { preference: "auto", ...fallback },
        { preference: "auto", ...fallback },
        { preference: "js", ...askedForJs },
        { preference: "cuda", reason, rejected },
      ],
      warnings: [],
    });
  });
});

describe("@moe-a2a/cuda is installed and can run", () => {
  test("it is taken, unless JS is asked for", async () => {
    const told = await select(
      withEntry(`
        import { jsBackend } from "@moe-a2a/js";
        const status = () => ({ available: true, devices: [{ type: "cuda", id: 0, name: "test" }] });
        export const cudaBackend = { ...jsBackend, name: "cuda", status, create: (...a) => jsBackend.create(...a) };
      `),
    );
    expect(told.results).toEqual([
      { backend: "cuda", reason: "cuda can run here", rejected: [] },
      { backend: "cuda", reason: "cuda can run here", rejected: [] },
      { backend: "js", reason: "js was asked for", rejected: [] },
      { backend: "cuda", reason: "cuda was asked for and can run", rejected: [] },
    ]);
    expect(told.messages.map(({ preference, backend }) => [preference, backend])).toEqual([
      ["auto", "cuda"],
      ["auto", "cuda"],
      ["js", "js"],
      ["cuda", "cuda"],
    ]);
    expect(told.warnings).toEqual([]);
  });
});

describe("@moe-a2a/cuda is installed but unusable", () => {
  /** Checks what all such cases share; returns the status that CUDA was rejected with. */
  async function rejection(cuda: Record<string, string>) {
    const { results, messages, warnings } = await select(cuda);
    const [auto, byDefault, js, asked] = results;
    expect(auto?.backend).toBe("js");
    expect(auto?.rejected).toHaveLength(1);
    expect(byDefault).toEqual(auto);
    expect(js).toEqual({ backend: "js", reason: "js was asked for", rejected: [] });
    const { status } = auto!.rejected![0]!;
    expect(auto?.reason).toBe(`js, as cuda cannot run here: ${status.reason}`);
    expect(asked).toEqual({
      code: "ERR_MOE_A2A_UNAVAILABLE",
      reason: status.reason,
      hint: status.hint,
      message: `the cuda backend was asked for and cannot run: ${status.reason}; ${status.hint}`,
    });
    expect(messages).toMatchObject([
      { preference: "auto", backend: "js", reason: auto!.reason, rejected: [{ name: "cuda", status }] },
      { preference: "auto", backend: "js" },
      { preference: "js", backend: "js" },
      { preference: "cuda", reason: status.reason, rejected: [{ name: "cuda", status }] },
    ]);
    // Once, although two selections fell back.
    expect(warnings).toEqual([
      {
        name: "MoeA2AWarning",
        code: "MOE_A2A_CUDA_UNUSABLE",
        message: `moe-a2a runs on the CPU: ${status.reason}; ${status.hint}`,
      },
    ]);
    return status;
  }

  test("its status() says why", async () => {
    const cuda = withEntry(`
      const status = () => ({
        available: false,
        code: "CUDA_NO_DRIVER",
        reason: "no NVIDIA driver is loaded",
        hint: "install a driver of release 580 or later",
      });
      export const cudaBackend = { name: "cuda", status, create: async () => { throw new Error("unused"); } };
    `);
    expect(await rejection(cuda)).toEqual({
      available: false,
      code: "CUDA_NO_DRIVER",
      reason: "no NVIDIA driver is loaded",
      hint: "install a driver of release 580 or later",
    });
  });

  test("its status() throws", async () => {
    const cuda = withEntry(`
      const status = () => { throw new Error("version 580.1 of the driver is not understood"); };
      export const cudaBackend = { name: "cuda", status, create: async () => { throw new Error("unused"); } };
    `);
    expect(await rejection(cuda)).toMatchObject({
      code: "CUDA_STATUS_FAILED",
      reason:
        "@moe-a2a/cuda is installed but its status() throws: version 580.1 of the driver is not understood",
    });
  });

  test("it throws while loading", async () => {
    const cuda = withEntry(`throw new Error("the addon needs glibc 2.39");`);
    expect(await rejection(cuda)).toEqual({
      available: false,
      code: "CUDA_LOAD_FAILED",
      reason: "@moe-a2a/cuda is installed but does not load: the addon needs glibc 2.39",
      hint: "reinstall it in the version of @moe-a2a/sglang, with its optional dependencies: npm i @moe-a2a/cuda",
    });
  });

  test("one of its own imports is missing, which is not the same as not being installed", async () => {
    const cuda = withEntry(`import "@moe-a2a/cuda-linux-x64"; export const cudaBackend = {};`);
    expect(await rejection(cuda)).toMatchObject({
      code: "CUDA_LOAD_FAILED",
      reason: expect.stringMatching(/is installed but does not load: .*@moe-a2a\/cuda-linux-x64/),
    });
  });

  test("its entry is missing, as in a package that was not built", async () => {
    expect(await rejection({ "package.json": CUDA_MANIFEST })).toMatchObject({
      code: "CUDA_LOAD_FAILED",
      reason: expect.stringMatching(/is installed but does not load: .*cuda\/index\.js/),
    });
  });

  test("its manifest is broken", async () => {
    expect((await rejection({ "package.json": "{", "index.js": "" })).code).toBe("CUDA_LOAD_FAILED");
  });

  test("it has another version, which nobody has tested with this one", async () => {
    const entry = withEntry(`
      const status = () => ({ available: true, devices: [] });
      export const cudaBackend = { name: "cuda", status, create: async () => { throw new Error("unused"); } };
    `);
    const manifest = JSON.stringify({ ...JSON.parse(CUDA_MANIFEST), version: "99.1.0" });
    expect(await rejection({ ...entry, "package.json": manifest })).toMatchObject({
      code: "CUDA_VERSION",
      reason: expect.stringMatching(
        /^@moe-a2a\/cuda has version 99\.1\.0, and @moe-a2a\/sglang has version /,
      ),
    });
  });

  test("it exports no backend", async () => {
    expect(await rejection(withEntry("export const cudaBackend = 5;"))).toMatchObject({
      code: "CUDA_LOAD_FAILED",
      reason: "@moe-a2a/cuda is installed but exports no backend: cudaBackend is 5",
    });
  });
});

test("another preference is refused", async () => {
  await expect(selectBackend("gpu" as "cuda")).rejects.toMatchObject({
    code: "ERR_MOE_A2A_ARGUMENT",
    argument: "backend",
    message: 'selectBackend(): the backend is "gpu"; it must be one of "auto", "cuda", "js"',
  });
});

test("the built package loads with require() too", async () => {
  installation = await install();
  const names = await installation.run(`
    import { createRequire } from "node:module";
    const { selectBackend } = createRequire(import.meta.url)("@moe-a2a/sglang");
    console.log(JSON.stringify((await selectBackend()).backend.name));
  `);
  expect(names).toBe("js");
});
