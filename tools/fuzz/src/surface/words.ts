import { inspect } from "node:util";
import { isMoeA2AError } from "@moe-a2a/core";

/** What the fuzzer's groups keep to themselves. */
export const SECRET = "a secret of the fuzzer, 32 bytes";
/** Begins the names of the fuzzer's folders and sockets. */
export const PLACE = "moe-a2a-fuzz-";

const UNSAID = [SECRET, Buffer.from(SECRET).toString("base64"), PLACE];

/** @throws where an error, or one of its causes, says a secret or where a socket is */
export function checkWords(error: unknown): void {
  for (let at = error; isMoeA2AError(at); at = at.cause) {
    // Fields and all, but not what a hostile value would do to whoever reads it.
    const text = inspect({ ...at, message: at.message }, { depth: 4 });
    const said = UNSAID.find((words) => text.includes(words));
    if (said !== undefined) throw new Error(`an error says "${said}": ${text}`);
  }
}
