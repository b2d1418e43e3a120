"""Record finished runs in W&B from their tables, each once: for runs that were trained without record=wandb.

    python scripts/wandb_sync.py outputs/fig1_quick             offline, into the runs' folders; wandb sync sends it
    python scripts/wandb_sync.py outputs/fig1_quick --online    to the server, after wandb login

A place is a run's folder, or any folder above it. Curves, percentiles, histograms, configuration, and the table as an
artifact.
"""

import argparse
import sys
from pathlib import Path

from bnrepro.config import ConfigError, RecordConfig, without_paths
from bnrepro.config.compose import from_file
from bnrepro.config.refusal import one_line
from bnrepro.runs.folder import Damaged, RunFolder
from bnrepro.runs.wandb import mirrored, recorded, unreachable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("places", nargs="+", type=Path)
    parser.add_argument("--online", action="store_true", help="send now (default: offline)")
    parser.add_argument("--project", help="W&B's project (default: that of the run)")
    args = parser.parse_args()
    failed = 0
    try:
        RecordConfig(project=args.project or RecordConfig().project)  # raises ConfigError
        runs = []
        for place in args.places:
            here = [run for run in RunFolder.below(place) if run.finished_seeds()]
            if not here:
                raise ConfigError(f"{place}: no finished run here")
            runs += here
        if args.online and (reason := unreachable()):
            raise ConfigError(f"nothing was sent ({reason}); without --online runs are recorded on the disk")
        for run in runs:
            try:
                run.check_table()
            except Damaged as damage:
                print(f"error: {damage}; not recorded", file=sys.stderr)
                failed += 1
                continue
            cfg = from_file(run.config)
            cfg.record.wandb = "online" if args.online else "offline"
            cfg.record.project = args.project or cfg.record.project
            if mirrored(run, without_paths(cfg.resolved()), run.finished_seeds()):
                print(f"{run}: recorded")
            elif recorded(run, run.finished_seeds(), cfg.record.wandb):
                print(f"{run}: recorded before")
            else:
                failed += 1
        return 1 if failed else 0
    except (ConfigError, OSError, ValueError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
