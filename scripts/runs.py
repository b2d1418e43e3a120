"""Runs on disk: list them, look at one, remove some.

    python scripts/runs.py ls                          every run in outputs/: state, age, accuracy
    python scripts/runs.py ls outputs/fig1_quick --format csv
    python scripts/runs.py show outputs/fig1_quick/bn/lr0.1-std0.1-b60-abe6c5e4
    python scripts/runs.py page outputs/fig1_quick     one HTML file: curves, percentiles, histograms, the table
    python scripts/runs.py rm outputs/scratch          asks first

A place is a run's folder, or any folder above it.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bnrepro import files
from bnrepro.analysis import summary
from bnrepro.config import Config, ConfigError
from bnrepro.config.commandline import FORMATS
from bnrepro.config.refusal import one_line
from bnrepro.config.schema import flat
from bnrepro.measure.metrics import declared
from bnrepro.runs.folder import RunBusy, RunFolder

BY_LAYER = ("eval.probe", "eval.units", "eval.diagnose")  # metrics of many layers: `page` draws them
UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", help="list runs")
    show = commands.add_parser("show", help="settings, origin and results of runs")
    page = commands.add_parser("page", help="an HTML page of runs, side by side")
    rm = commands.add_parser("rm", help="remove runs")
    ls.add_argument("places", nargs="*", type=Path, default=[Path("outputs")], help="default: outputs")
    ls.add_argument("--format", choices=FORMATS, default="table")
    page.add_argument("--out", type=Path, help="default: runs.html in the place")
    for command in (show, page, rm):
        command.add_argument("places", nargs="+", type=Path)
    rm.add_argument("--yes", action="store_true", help="do not ask")
    args = parser.parse_args()
    try:
        runs = found(args.places)
        if args.command == "ls":
            listed(runs, args.format)
        elif args.command == "page":
            paged(runs, args.out or args.places[0] / "runs.html", args.places[0].resolve().name)
        elif args.command == "show":
            for run in runs:
                shown(run)
        else:
            return removed(runs, args.yes)
        return 0
    except (ConfigError, RunBusy, OSError, ValueError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2


def found(places: list[Path]) -> list[RunFolder]:
    """The runs at or below these folders. Raises ConfigError for one without any."""
    runs: dict[Path, RunFolder] = {}
    for place in places:
        # A config.yaml alone may be anybody's, and `rm` removes its folder.
        here = [run for run in RunFolder.below(place) if run.status_file.is_file()]
        if not here:
            raise ConfigError(
                f"{place}: no run here; a run is a folder with config.yaml and run.json, below outputs/"
            )
        runs |= {run.path.resolve(): run for run in here}
    return list(runs.values())


def age(run: RunFolder) -> str:
    file = run.status_file if run.status_file.exists() else run.config
    seconds = time.time() - file.stat().st_mtime
    for unit, length in UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count > 1)}"
    return "now"


def listed(runs: list[RunFolder], how: str) -> None:
    lines = [summary.line(run) for run in runs]
    if how != "table":
        print(summary.rendered(lines, how))
        return
    table = Table("run", "state", "age", "seeds", "final accuracy, %", "diverged", caption=None)
    for line in lines:
        headings, (cells,) = summary.columns([line])
        told = dict(zip(headings, cells, strict=True))
        accuracy = next((v for k, v in told.items() if k.startswith("final")), "")
        row = [line.state, age(line.folder), told.get("seeds", ""), accuracy, told.get("diverged seeds", "")]
        table.add_row(line.folder.name, *row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def shown(run: RunFolder) -> None:
    """Where a run comes from, its settings, and the last value of every metric that is not of single layers."""
    line, status = summary.line(run), run.status()
    print(f"{run}: {line.state}, {age(run)}")
    origin = status.get("provenance", {})
    for key in ("command", "commit", "dirty", "date", "hardware", "engine", "wall_s"):
        if key in origin:
            print(f"  {key:10s} {origin[key]}")
    usual = flat(Config().resolved())
    changed = (f"{key}={value}" for key, value in line.settings.items() if usual.get(key) != value)
    print("  settings   " + " ".join(changed))
    if line.state == "damaged":
        return
    rows = run.rows() if run.table.exists() else []
    last = max((row.step for row in rows), default=0)
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.step == last and declared(row.name).when not in BY_LAYER:
            values.setdefault(row.name, []).append(row.value)
    if values:
        seeds = len({row.seed for row in rows if row.step == last})
        print(f"  at step {last:,}" + (f", mean over {seeds} seeds" if seeds > 1 else "") + ":")
    for name, numbers in values.items():
        print(f"    {name:32s} {sum(numbers) / len(numbers):.5g}")


def paged(runs: list[RunFolder], out: Path, title: str) -> None:
    try:
        from bnrepro.analysis.site import offline
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'bnrepro[site]'") from error

    files.write(out, offline.page([summary.line(run) for run in runs], title))
    print(f"page: {out.resolve()}")


def removed(runs: list[RunFolder], sure: bool) -> int:
    """Remove the folders of runs, of all or, where a process works on one of them, of none."""
    for run in runs:
        if run.at_work():
            raise RunBusy(f"{run}: another process is working on this run; stop it first")
    for run in runs:
        print(run)
    if not sure:
        try:
            sure = input(
                f"remove {'this run' if len(runs) == 1 else f'these {len(runs)} runs'}? [y/N] "
            ).lower() in ("y", "yes")
        except EOFError:
            print()
    if not sure:
        print("nothing removed", file=sys.stderr)
        return 1
    for run in runs:
        with run.lock():  # whoever has started on it since is left alone, and those after it are
            shutil.rmtree(run.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
