import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { mutants } from "../mutants.mjs";
import { translate } from "../translate.mjs";
import { worldsOf } from "../worlds.mjs";

const kernels = fileURLToPath(new URL("../../../kernels", import.meta.url));

test("launches and shared variables become C++", () => {
  expect(translate("fill<<<dim3(8, n), 128, 0, stream>>>(\n    a, b);")).toBe(
    '::emulation::launch("fill", fill, dim3(dim3(8, n)), dim3(128), stream, \n    a, b);',
  );
  expect(translate("__shared__ DispatchShared sh;")).toBe(
    "DispatchShared &sh = ::emulation::shared<DispatchShared>();",
  );
});

test("what cannot be translated is refused", () => {
  expect(() => translate('asm volatile("fence.acq_rel.sys;" ::: "memory");')).toThrow(
    "cannot translate: asm volatile",
  );
  expect(() => translate("kernel<<<1, 2>>>();")).toThrow("cannot translate: <<<");
});

test("a seed always stands for the same worlds, in which all that waits fits", () => {
  expect(worldsOf(8)).toEqual(worldsOf(8));
  expect(worldsOf(7)).not.toEqual(worldsOf(8));
  expect(worldsOf(8).map(({ program }) => program)).toEqual(["rounds_test", "stop_test"]);
  for (let seed = 1; seed <= 500; seed++) {
    const [{ args, env }] = worldsOf(seed);
    const value = (name) => Number(args[args.indexOf(`--${name}`) + 1]);
    expect(value("topk")).toBeLessThanOrEqual(value("experts"));
    expect(value("experts")).toBeGreaterThanOrEqual(value("ranks"));
    const waiting = Math.ceil(value("ranks") / Number(env.EMULATION_DEVICES)) * value("lanes");
    expect(Number(env.EMULATION_SMS)).toBeGreaterThanOrEqual(waiting);
  }
});

test("each mutant changes the kernels as they are", () => {
  const sources = new Map();
  for (const folder of ["src", "src/device"]) {
    for (const name of readdirSync(`${kernels}/${folder}`)) {
      if (/\.cuh?$/.test(name)) sources.set(name, readFileSync(`${kernels}/${folder}/${name}`, "utf8"));
    }
  }
  for (const { name, change } of mutants) {
    const changed = [...sources].filter(([file, text]) => change(text, file) !== text);
    expect(changed, name).toHaveLength(1);
  }
});
