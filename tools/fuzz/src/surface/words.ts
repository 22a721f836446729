import { inspect } from "node:util";
import { isMoeA2AError } from "@moe-a2a/core";

/** What the fuzzer's groups keep to themselves. */
export const SECRET = "a secret of the fuzzer, 32 bytes";
/** Begins the names of the fuzzer's folders and sockets. */
export const PLACE = "moe-a2a-fuzz-";

const UNSAID = [SECRET, Buffer.from(SECRET).toString("base64"), PLACE];

/** All that an error says, without what a hostile value among its fields does to whoever reads it. */
function textOf(fields: Readonly<Record<string, unknown>>): string {
  return Object.entries(fields)
    .map(([name, value]) => {
      try {
        return `${name}: ${inspect(value, { depth: 4 })}`;
      } catch {
        return `${name}: what throws when it is looked at`;
      }
    })
    .join("\n");
}

/** @throws where an error, or one of its causes, says a secret or where a socket is */
export function checkWords(error: unknown): void {
  for (let at = error; isMoeA2AError(at); at = at.cause) {
    const text = textOf({ ...at, message: at.message });
    const said = UNSAID.find((words) => text.includes(words));
    if (said !== undefined) throw new Error(`an error says "${said}": ${text}`);
  }
}
