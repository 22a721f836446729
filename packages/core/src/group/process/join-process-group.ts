import type { Group } from "../group.js";
import { Guest } from "./guest.js";
import { Host } from "./host.js";
import { checkJoinOptions, type ProcessGroupOptions } from "./join-options.js";

/**
 * Joins a group whose ranks are processes, on one host or several. Rank 0 listens at `address`, the others find it there
 * and then one another; each proves that it knows the secret before anything else that it sends is read. What is sent is
 * not encrypted.
 *
 * Options that are left out come from the environment: `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`, as torchrun sets
 * them, and `MOE_A2A_SECRET`.
 *
 * @returns the group, once all ranks are there
 * @throws (rejects) ERR_MOE_A2A_ARGUMENT for an option that is missing or wrong, an address at which rank 0 cannot listen,
 * or a secret that is not the others'
 * @throws (rejects) ERR_MOE_A2A_MISMATCH where ranks have other sizes or versions of the protocol, ERR_MOE_A2A_STATE where two
 * want the same rank; on every rank that is there
 * @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT naming the ranks that were not there after `timeoutMs`, or were lost
 */
export async function joinProcessGroup(options: ProcessGroupOptions = {}): Promise<Group> {
  const checked = checkJoinOptions(options, process.env);
  const joining = checked.rank === 0 ? new Host(checked) : new Guest(checked);
  void joining.open();
  return joining.group;
}
