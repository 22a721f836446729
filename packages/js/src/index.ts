export { type JsCreateOptions, jsBackend } from "./backend.js";
