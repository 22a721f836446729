import { defineConfig } from "tsup";
import { program } from "../../tsup.base.js";

const sources = (name: string): string =>
  new URL(`../../packages/${name}/src/index.ts`, import.meta.url).pathname;

export default defineConfig([
  {
    ...program,
    clean: false,
    // Without its paths, so that what is called is the packages as they are built.
    tsconfig: "../../tsconfig.base.json",
    entry: [
      "src/main.ts",
      "src/surface-main.ts",
      "src/addon-main.ts",
      "src/strangers-main.ts",
      "src/native-main.ts",
      "src/figures-main.ts",
      "src/surface/lost-rank.ts",
      "src/addon/thread.ts",
      "src/strangers/rank.ts",
    ],
  },
  {
    ...program,
    clean: false,
    entry: ["src/frames-main.ts"],
    // What takes bytes is private, so this one is made from the packages' sources: one copy of each.
    noExternal: [/^@moe-a2a\//],
    esbuildOptions: (options) => {
      options.alias = { "@moe-a2a/core": sources("core"), "@moe-a2a/js": sources("js") };
    },
  },
]);
