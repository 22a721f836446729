import { diagnose } from "../diagnose/diagnose.js";
import type { Command } from "./command.js";
import { readDoctorArgs } from "./doctor-options.js";
import { formatDiagnosis } from "./doctor-report.js";

const HELP = `Looks at this machine and this installation: Node, packages and their versions, backends and why one
cannot run, GPUs with driver, links and peer access. Plays one small round on each backend that can
run, one rank of it without tokens, and compares every value.

Usage: moe-a2a doctor [options]

  --backend NAME  cuda or js: that one has to be there (default auto: any)
  --config JSON   tells the memory that a config would take; JSON, or the name of a file that holds it:
                  the fields of MoeAllToAllConfig, with hiddenSize, dtype and format in place of the
                  byte limits if you like
  --timeout MS    how long the round may wait for a rank (default 10000)
  --json          prints what diagnose() returns, for programs
  --help          this text

Exit codes: 0 no problems; 1 problems, which the end of the output lists; 2 wrong arguments.
`;

export const doctor: Command = {
  summary: "looks at this machine and this installation, and plays a round",

  async main(args) {
    const options = readDoctorArgs(args);
    if (options === "help") {
      process.stdout.write(HELP);
      return 0;
    }
    const diagnosis = await diagnose(options.diagnose);
    process.stdout.write(
      options.json ? `${JSON.stringify(diagnosis, null, 2)}\n` : formatDiagnosis(diagnosis),
    );
    return diagnosis.ok ? 0 : 1;
  },
};
