import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";

let name: string | undefined;

/** Names this host, as it runs now, without telling what it is called. */
export function hostName(): string {
  if (name === undefined) {
    let boot = hostname();
    try {
      // The same in all containers of a host.
      boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8");
    } catch {}
    name = createHash("sha256").update(boot).digest("hex").slice(0, 16);
  }
  return name;
}
