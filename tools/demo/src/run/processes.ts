import { fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { ProcessInput, RankInput } from "../rank/protocol.js";
import { findAddress } from "./address.js";
import type { StartRank } from "./ranks.js";

/** Long, as 64 ranks may start on few processors; one that ends meanwhile is noticed at once. */
const JOIN_MS = 120_000;

/** Ranks in processes, in a group of their own. Each makes the model's weights from the seed. */
export async function inProcesses(inputs: readonly RankInput[]): Promise<StartRank[]> {
  const group = {
    size: inputs.length,
    address: await findAddress(),
    secret: randomBytes(32),
    timeoutMs: JOIN_MS,
  };
  return inputs.map((input, rank) => inProcess({ ...input, group: { ...group, rank } }));
}

function inProcess(input: ProcessInput): StartRank {
  return (hear) => {
    const child = fork(fileURLToPath(new URL("./process.js", import.meta.url)), {
      // Typed arrays travel as what they are.
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    child.on("message", hear);
    const ended = new Promise<string>((resolve) => {
      child.on("error", (error) => resolve(`its process could not be started: ${error.message}`));
      // Comes after the last message, unlike "exit".
      child.on("close", (code, signal) => {
        resolve(`its process ended early ${signal ? `by ${signal}` : `with exit code ${code}`}`);
      });
    });
    // A process that is gone already tells so by its end.
    child.send(input, () => {});
    return {
      ended,
      async terminate() {
        child.kill("SIGKILL");
        await ended;
      },
    };
  };
}
