// Builds the library for the CPU, over the emulated runtime, and what stands on it.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { each } from "../model/pool.mjs";
import { translate } from "./translate.mjs";

const kernels = fileURLToPath(new URL("../../kernels", import.meta.url));
const own = fileURLToPath(new URL("src", import.meta.url));
const addon = fileURLToPath(new URL("../../packages/cuda", import.meta.url));

const FLAGS = "-std=c++17 -O2 -w -fPIC -fno-strict-aliasing -ffp-contract=off".split(" ");
const DEVICE = ["-x", "c++", "-include", "intrinsics.hpp"];
const LIBRARIES = ["-lboost_context", "-lpthread"];

function flagsOf(directory, headers) {
  const copied = ["include", "src", "src/host"].map((folder) => join(directory, "kernels", folder));
  return [...FLAGS, ...[...copied, own, ...headers].map((path) => `-I${path}`)];
}

function compile(argv) {
  return new Promise((done, refuse) => {
    const child = spawn("g++", argv, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (data) => {
      said += data;
    });
    child.on("error", refuse);
    child.on("close", (code) => (code === 0 ? done() : refuse(new Error(`g++ ${argv.join(" ")}\n${said}`))));
  });
}

/** Worlds are small: what only large rounds and GPUs have is there from fewer bytes and blocks on. */
const SCALED = new Map([
  ["dispatch_phase.cpp", ["kFillBytesPerBlock = 65536", "kFillBytesPerBlock = 1536"]],
  ["dispatch.cu", ["kManyBlocks = 128", "kManyBlocks = 9"]],
]);

function scale(text, name) {
  const [from, to] = SCALED.get(name) ?? ["", ""];
  if (!text.includes(from)) throw new Error(`${name} has no ${JSON.stringify(from)} any more`);
  return text.replace(from, to);
}

/** Copies a folder's sources, translated, and with `change` made to each file. */
async function copySources(from, to, change) {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    if (entry.isDirectory()) {
      await copySources(source, join(to, entry.name), change);
    } else if (entry.name === "memory.cuh") {
      await writeFile(join(to, entry.name), '#pragma once\n#include "emulated_memory.hpp"\n');
    } else if (/\.(cuh?|[ch]pp|h)$/.test(entry.name)) {
      await writeFile(
        join(to, entry.name),
        translate(change(scale(await readFile(source, "utf8"), entry.name), entry.name)),
      );
    }
  }
}

/** Copies a test program and the headers of its folder that it includes. */
async function copyTest(program, to) {
  await mkdir(to, { recursive: true });
  const from = join(kernels, "test");
  const names = new Set(await readdir(from));
  const left = [`${program}.cu`];
  for (const name of left) {
    const source = await readFile(join(from, name), "utf8");
    await writeFile(join(to, name), translate(source));
    for (const [, header] of source.matchAll(/^#include "(.+)"/gm)) {
      if (names.has(header) && !left.includes(header)) left.push(header);
    }
  }
}

const sourcesIn = async (folder, pattern) =>
  (await readdir(folder)).filter((name) => pattern.test(name)).map((name) => join(folder, name));

/** What lies in a folder of sources, and how it is compiled. */
async function stampOf(folders, flags) {
  const hash = createHash("sha256").update(flags.join(" "));
  for (const folder of folders) {
    for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
      if (entry.isFile())
        hash.update(entry.name).update(await readFile(join(entry.parentPath ?? entry.path, entry.name)));
    }
  }
  return hash.digest("hex");
}

/**
 * Builds the library over the emulated runtime, in `directory`, unless that is done; resolves to its objects. With
 * `change(text, name)`, kernels that are changed, next to the rest of what was built in `base`.
 */
async function buildLibrary(directory, { headers, jobs, change, base = directory }) {
  const copy = join(directory, "kernels");
  await rm(copy, { recursive: true, force: true });
  for (const folder of ["include", "src"]) {
    await copySources(join(kernels, folder), join(copy, folder), change ?? ((text) => text));
  }
  const device = await sourcesIn(join(copy, "src"), /\.cu$/);
  const host = [
    ...(await sourcesIn(join(copy, "src"), /\.cpp$/)),
    ...(await sourcesIn(join(copy, "src/host"), /\.cpp$/)),
    ...(await sourcesIn(own, /\.cpp$/)),
  ];
  const flags = flagsOf(directory, headers);
  const objectOf = (source, folder = directory) => join(folder, `${basename(source)}.o`);
  const objects = [...device.map((s) => objectOf(s)), ...host.map((s) => objectOf(s, base))];
  const stamp = await stampOf([copy, own], flags);
  const stampFile = join(directory, "stamp");
  if ((await readFile(stampFile, "utf8").catch(() => "")) === stamp) return objects;
  await rm(stampFile, { force: true });
  await each(base === directory ? [...device, ...host] : device, jobs, (source) =>
    compile([...flags, ...(source.endsWith(".cu") ? DEVICE : []), "-c", source, "-o", objectOf(source)]),
  );
  await writeFile(stampFile, stamp);
  return objects;
}

/** Builds the library, and over it `program`, the name of a test in kernels/test; resolves to the program's path. */
export async function buildTest(program, directory, options) {
  const objects = await buildLibrary(directory, options);
  const test = join(directory, "kernels/test");
  await copyTest(program, test);
  const binary = join(directory, program);
  await compile([
    ...[...flagsOf(directory, options.headers), ...DEVICE, join(test, `${program}.cu`)],
    ...["-x", "none", ...objects, "-o", binary, ...LIBRARIES],
  ]);
  return binary;
}

/** Builds the library, and over it the addon of packages/cuda; resolves to its path. */
export async function buildAddon(directory, options) {
  const objects = await buildLibrary(directory, options);
  const require = createRequire(join(addon, "package.json"));
  const include = [
    dirname(require.resolve("node-addon-api/napi.h")),
    require("node-api-headers").include_dir,
  ];
  const flags = [
    ...[...flagsOf(directory, options.headers), ...include.map((path) => `-I${path}`), "-std=c++20"],
    ...["NAPI_VERSION=9", "NAPI_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"].map(
      (d) => `-D${d}`,
    ),
    `-DMOE_A2A_PACKAGE_VERSION="${require("./package.json").version}"`,
  ];
  const sources = await sourcesIn(join(addon, "native"), /\.cpp$/);
  const objectOf = (source) => join(directory, `addon_${basename(source)}.o`);
  await each(sources, options.jobs, (source) => compile([...flags, "-c", source, "-o", objectOf(source)]));
  const binary = join(directory, "moe_a2a.node");
  await compile([
    "-shared",
    ...sources.map(objectOf),
    ...objects,
    "-o",
    binary,
    ...LIBRARIES,
    "-Wl,-z,nodelete",
  ]);
  return binary;
}
