import { once } from "node:events";
import { createServer } from "node:net";
import { expect, it } from "vitest";
import { findAddress } from "../src/run/address.js";

it("finds a place to listen at, below the ports of outgoing connections", async () => {
  const [host, port] = (await findAddress()).split(":");
  expect(host).toBe("127.0.0.1");
  expect(Number(port)).toBeGreaterThanOrEqual(20_000);
  expect(Number(port)).toBeLessThan(32_000);
  const server = createServer().listen(Number(port), host);
  await once(server, "listening");
  server.close();
});
