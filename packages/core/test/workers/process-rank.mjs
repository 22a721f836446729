// One rank of a process group; does what its parent asks, one command after another.
import { joinProcessGroup } from "../../dist/index.js";

let group;
const text = (bytes) => new TextDecoder().decode(bytes);

const commands = {
  async join({ options }) {
    group = await joinProcessGroup(options);
    return { rank: group.rank, size: group.size };
  },
  /** Joins while its event loop is busy for a while with something else. */
  async joinBusy({ options, busyMs }) {
    const joining = joinProcessGroup(options);
    await new Promise((resolve) => setTimeout(resolve, 50));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, busyMs);
    group = await joining;
    return { rank: group.rank, size: group.size };
  },
  async exchange({ key, value, timeoutMs }) {
    return (await group.exchange(key, new TextEncoder().encode(value), { timeoutMs })).map(text);
  },
  /** Values of `bytes` bytes that tell rank, key and place; says what is wrong with those of the others. */
  async exchangeMany({ keys, bytes }) {
    const fill = (rank, key) => new Uint8Array(Buffer.alloc(bytes, `rank ${rank}, key ${key};`));
    const wrong = [];
    const gather = async (key) => {
      const values = await group.exchange(`key ${key}`, fill(group.rank, key));
      for (const [rank, value] of values.entries()) {
        if (Buffer.compare(value, fill(rank, key)) !== 0) wrong.push([rank, key]);
      }
    };
    await Promise.all(Array.from({ length: keys }, (_, key) => gather(key)));
    return wrong;
  },
  /** Sends one large value to all and leaves at once, also where some of it is still on its way. */
  async exchangeAndClose({ bytes }) {
    const values = await group.exchange("last", new Uint8Array(bytes));
    await group.close();
    return values.map((value) => value.length);
  },
  /** Leaves while what it sends is still on its way to a peer that may never take it. */
  async sendAndClose({ bytes }) {
    group.exchange("last", new Uint8Array(bytes)).catch(() => {});
    await group.close();
  },
  async close() {
    await group.close();
    await group.close();
  },
  /** Has nothing but the group left, which must not keep the process. */
  async disconnect() {
    setImmediate(() => process.disconnect());
  },
  async resources() {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return process
      .getActiveResourcesInfo()
      .filter((kind) => /TCP|Pipe(?!Wrap)|Server|ConnectWrap|Timeout/.test(kind));
  },
};

process.on("message", async ({ id, command, ...args }) => {
  try {
    process.send({ id, result: await commands[command](args) });
  } catch (error) {
    process.send({ id, error: { ...error, message: error.message } });
  }
});
process.send({ id: -1, result: "started" });
