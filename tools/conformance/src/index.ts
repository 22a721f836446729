export { type BackendUnderTest, backends, type GroupKind, type TestOptions } from "./backends.js";
export type { Case, Context, DrivenCase, RankCase } from "./case.js";
export { cases, rankCase } from "./cases/index.js";
export { applies, type Outcome, Runner } from "./runner.js";
