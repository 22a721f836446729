import { defineConfig } from "tsup";
import { library } from "../../tsup.base.js";

// One bundle for each entry, so that there are no files of code that they share.
export default defineConfig([
  library,
  { ...library, entry: ["src/opentelemetry.ts"] },
  { ...library, entry: { cli: "src/cli/main.ts" }, dts: false },
]);
