"""Figures and tables from what results/ holds, no training: results/figures/*.png, results/tables/*."""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from bnrepro.analysis.figures import catalogue

PAPER = Path(__file__).resolve().parents[1] / "results" / "paper.csv"  # the published numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="read and written (%(default)s)"
    )
    draw = partial(catalogue.draw, parser.parse_args().results, paper=pd.read_csv(PAPER))
    with ProcessPoolExecutor(min(len(catalogue.EXPERIMENTS), os.cpu_count() or 1)) as pool:
        failures = 0
        for paths, reason, failed in pool.map(draw, catalogue.EXPERIMENTS):
            for path in paths:
                print(path, flush=True)
            if reason:
                print(f"figures: {reason}", file=sys.stderr)
            failures += failed
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
