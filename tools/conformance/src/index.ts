export {
  type BackendUnderTest,
  backendNames,
  type GroupKind,
  loadBackend,
  type TestOptions,
} from "./backends.js";
export type { Case, Context, DrivenCase, RankCase } from "./case.js";
export { cases, rankCase } from "./cases/index.js";
export { applies, fits, type Outcome, Runner } from "./runner.js";
