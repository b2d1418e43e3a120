"""Figure 1 from nothing in about a minute: both arms on the embedded digits, a table, a picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bnrepro.analysis import collect, figures
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.report import format_interval
from bnrepro.config import Config
from bnrepro.config.checks import check
from bnrepro.config.compose import jobs
from bnrepro.machine import answer_signals
from bnrepro.progress import progress
from bnrepro.runs.ending import ended_by
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "overrides", nargs="*", help="settings of scripts/train.py, e.g. seeds=10 optim.lr=0.5"
    )
    parser.add_argument("--out", type=Path, help="the picture (default: outputs/figure1.png)")
    options = parser.parse_args()
    try:
        for setting in options.overrides:
            check(not setting.startswith("hydra"), f"{setting}: Figure 1 is trained here, without a launcher")
        configs = jobs(["experiment=fig1_quick", *options.overrides])
        path = picture_of(options.out or Path(configs[0].output) / "figure1.png", configs)
        for cfg in configs:
            with progress(f"{cfg.variant:9s}", cfg.steps, len(cfg.seeds)) as update:
                if run(cfg, update) == "skipped":
                    print(f"{cfg.variant}: trained before, taken from {RunFolder.of(cfg).path}")
        frame = collect.collect(*(RunFolder.of(cfg).path for cfg in configs)).frame
        table, picture = tidy.figure1_table(frame), figures.figure1(frame)
        picture.savefig(path, dpi=200)
    except BaseException as error:
        return ended_by(error, OSError, ValueError)
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


def picture_of(path: Path, configs: list[Config]) -> Path:
    """Where the picture goes, its folder made. Raises ConfigError or OSError, before anything is trained."""
    variants = [cfg.variant for cfg in configs]
    two = variants.count("baseline") == variants.count("bn") == 1
    words = "baseline and bn, each once: leave variant= out, and give every other setting one value"
    check(two, f"Figure 1 compares {words}; for more there is scripts/train.py -m")
    probed = all(cfg.eval.probe for cfg in configs)
    check(probed, "eval.probe=false: Figure 1 shows the inputs to a unit; leave the setting out")
    kinds = Figure().canvas.get_supported_filetypes()
    good = path.suffix.lstrip(".").lower() in kinds and not path.is_dir()
    check(good, f"--out {path}: a file that ends in one of {', '.join(sorted(kinds))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    answer_signals()
    sys.exit(main())
