"""Figure 1 from nothing in about a minute: both arms on the embedded digits, a table, a picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bnrepro.analysis import collect, figures
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.report import format_interval
from bnrepro.config.compose import jobs
from bnrepro.config.refusal import one_line
from bnrepro.progress import progress
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import REFUSALS, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "overrides", nargs="*", help="settings of scripts/train.py, e.g. seeds=10 optim.lr=0.5"
    )
    parser.add_argument("--out", type=Path, help="the picture (default: outputs/figure1.png)")
    options = parser.parse_args()
    try:
        configs = jobs(["experiment=fig1_quick", *options.overrides])
        for cfg in configs:
            with progress(f"{cfg.variant:9s}", cfg.steps, len(cfg.seeds)) as update:
                if run(cfg, update) == "skipped":
                    print(f"{cfg.variant}: trained before, taken from {RunFolder.of(cfg).path}")
        frame = collect.collect(*(RunFolder.of(cfg).path for cfg in configs)).frame
        table, picture = tidy.figure1_table(frame), figures.figure1(frame)
        path = options.out or Path(configs[0].output) / "figure1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.savefig(path, dpi=200)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except (*REFUSALS, ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    shown = Table("quantity", "arm", "value [95% interval]", "n")
    for row in table.to_dict("records"):
        never = f" ({row['censored']} never)" if row["censored"] else ""
        value = format_interval(row["unit"], row["value"], row["low"], row["high"])
        shown.add_row(row["quantity"], row["arm"], value, f"{row['n']}{never}")
    Console(width=None if sys.stdout.isatty() else 120).print(shown)
    if configs[0].data.name == "mnist5k":
        words = (
            f"the embedded digits, {configs[0].steps:,} steps: not the study's 60,000 images and 50,000 steps"
        )
        print(f"{words}; a ratio of steps depends on how long the baseline trains")
    print(f"figure: {path.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
