import type { NetConnectOpts } from "node:net";
import { MoeA2AError } from "../../errors.js";

/** Where a rank listens. Never part of a message: addresses may be private. */
export type Place = { readonly host: string; readonly port: number } | { readonly path: string };

const LOOPBACK = "127.0.0.1";
/** A socket's path has at most 107 bytes on Linux, 103 on macOS; the ranks other than 0 append some to it. */
const MAX_PATH_BYTES = 88;

function addressError(problem: string): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return new MoeA2AError(
    "ERR_MOE_A2A_ARGUMENT",
    `joinProcessGroup(): address ${problem}; it is "host:port" ("[host]:port" for IPv6, ":port" for loopback) or "unix:/path"`,
    { argument: "address" },
  );
}

/**
 * Reads `host:port`, `[host]:port`, `:port` (loopback) or `unix:/path`.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function parseAddress(address: unknown): Place {
  if (typeof address !== "string") throw addressError("is not a string");
  if (address.startsWith("unix:")) {
    const path = address.slice("unix:".length);
    if (!path.startsWith("/") || path.includes("\0")) throw addressError("has no absolute path");
    const bytes = Buffer.byteLength(path);
    if (bytes > MAX_PATH_BYTES) {
      throw addressError(`has a path of ${bytes} bytes, of which a socket's may have ${MAX_PATH_BYTES}`);
    }
    return { path };
  }
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(address);
  if (!match) throw addressError("cannot be read");
  const port = Number(match[3]);
  if (port < 1 || port > 65_535) throw addressError("has no port from 1 to 65535");
  return { host: match[1] ?? (match[2] || LOOPBACK), port };
}

/** Where to connect to for a place. */
export function connectOptions(place: Place): NetConnectOpts {
  return "path" in place ? { path: place.path } : { host: place.host, port: place.port };
}
