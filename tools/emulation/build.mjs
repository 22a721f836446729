// Builds a test program of kernels/ for the CPU, over the emulated runtime.
import { spawn } from "node:child_process";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { each } from "../model/pool.mjs";
import { translate } from "./translate.mjs";

const kernels = fileURLToPath(new URL("../../kernels", import.meta.url));
const own = fileURLToPath(new URL("src", import.meta.url));

const FLAGS = "-std=c++17 -O2 -w -fno-strict-aliasing -ffp-contract=off".split(" ");

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
      await writeFile(join(to, entry.name), translate(change(await readFile(source, "utf8"), entry.name)));
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

/**
 * Builds `program`, the name of a test in kernels/test, in `directory`; resolves to its path. `change(text, name)` may
 * change the kernels, if all was built there before without it.
 */
export async function build(program, directory, { headers, jobs, change }) {
  const copy = join(directory, "kernels");
  await rm(copy, { recursive: true, force: true });
  for (const folder of ["include", "src"]) {
    await copySources(join(kernels, folder), join(copy, folder), change ?? ((text) => text));
  }
  await copyTest(program, join(copy, "test"));
  const include = [join(copy, "include"), join(copy, "src"), join(copy, "src/host"), own, ...headers];
  const device = await sourcesIn(join(copy, "src"), /\.cu$/);
  const others = [
    join(copy, "test", `${program}.cu`),
    ...(await sourcesIn(join(copy, "src"), /\.cpp$/)),
    ...(await sourcesIn(join(copy, "src/host"), /\.cpp$/)),
    ...(await sourcesIn(own, /\.cpp$/)),
  ];
  const flags = [...FLAGS, ...include.map((path) => `-I${path}`)];
  const objectOf = (source) => join(directory, `${basename(source)}.o`);
  await each(change ? device : [...device, ...others], jobs, (source) => {
    const language = source.endsWith(".cu") ? ["-x", "c++", "-include", "intrinsics.hpp"] : [];
    return compile([...flags, ...language, "-c", source, "-o", objectOf(source)]);
  });
  const binary = join(directory, program);
  await compile([
    ...device.map(objectOf),
    ...others.map(objectOf),
    "-o",
    binary,
    "-lboost_context",
    "-lpthread",
  ]);
  return binary;
}
