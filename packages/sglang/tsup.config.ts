import { defineConfig } from "tsup";
import { library } from "../../tsup.base.js";

export default defineConfig([library, { ...library, entry: { cli: "src/cli/main.ts" }, dts: false }]);
