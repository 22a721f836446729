// Another process: plays a round whose tokens and results lie in memory of its parent, and says what it read there.
import { createLocalGroup } from "@moe-a2a/core";
import { cudaBackend, importIpc } from "../../dist/index.js";

process.once("message", async ({ config, device, rows, out }) => {
  const [tokens] = rows.shape;
  const a2a = await cudaBackend.create(config, createLocalGroup(1)[0], { device });
  const opened = await importIpc(rows, device);
  const results = await importIpc(out, device);
  const read = await a2a.read(opened);
  const ids = a2a.empty("int32", [tokens, 1]);
  await a2a.write(ids, new Int32Array(tokens));
  const round = a2a.dispatch({ numLocalTokens: tokens, tokenSelectedExperts: ids, payloads: [opened] });
  await round.combine(round.recv[0], { out: results }).ready();
  await a2a.close();
  await Promise.all([opened.close(), results.close()]);
  process.send({ read, device: opened.device, data: opened.data }, () => process.disconnect());
});
