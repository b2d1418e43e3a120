"""Figures and tables from what results/ holds, no training: results/figures/*.png, results/tables/*, docs/study.md."""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from bnrepro import files
from bnrepro.analysis import report
from bnrepro.analysis.figures import catalogue

PAPER = Path(__file__).resolve().parents[1] / "results" / "paper.csv"  # the published numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="*", help="only these (default: all that have a figure)")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="read and written (%(default)s)"
    )
    args = parser.parse_args()
    if unknown := sorted(set(args.experiment) - set(catalogue.EXPERIMENTS)):
        known = ", ".join(catalogue.EXPERIMENTS)
        print(f"figures: {', '.join(unknown)}: no figure of that name; there are {known}", file=sys.stderr)
        return 2
    if not args.results.is_dir():
        print(f"figures: {args.results} is no folder of results", file=sys.stderr)
        return 1
    chosen = args.experiment or catalogue.EXPERIMENTS
    draw = partial(catalogue.draw, args.results, paper=pd.read_csv(PAPER))
    with ProcessPoolExecutor(min(len(chosen), os.cpu_count() or 1)) as pool:
        failures = 0
        for paths, reason, failed in pool.map(draw, chosen):
            for path in (*paths, *shown_in_study(args.results, paths)):
                print(path, flush=True)
            if "several runs per" in reason and not args.experiment:  # a user's own table: no reason to stop
                failed = False
            reason = reason.replace(
                "select one with frame.query(...)", "collect those of one setting, without --all"
            )
            if reason and (failed or args.experiment or not reason.startswith(catalogue.QUICK)):
                print(f"figures: {reason}", file=sys.stderr)
            failures += failed or (bool(args.experiment) and not paths)
    return min(failures, 1)


def shown_in_study(results: Path, made: list[Path]) -> list[Path]:
    """Put the tables into docs/study.md beside results/, each where it has a block of the table's name."""
    study = results.parent / "docs" / "study.md"
    if not study.exists():
        return []
    before = after = study.read_text(encoding="utf-8")
    for table in (path for path in made if path.suffix == ".md"):
        after = report.with_block(after, f"table: {table.stem}", table.read_text(encoding="utf-8"))
    if after == before:
        return []
    files.write(study, after)
    return [study]


if __name__ == "__main__":
    sys.exit(main())
