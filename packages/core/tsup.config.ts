import { defineConfig } from "tsup";
import { library } from "../../tsup.base.js";

export default defineConfig({
  ...library,
  // `AsyncDisposable` for users whose `lib` has none; the bundled declarations drop references of the sources.
  dts: { banner: '/// <reference lib="esnext.disposable" />' },
});
