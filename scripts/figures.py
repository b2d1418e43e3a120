"""Figures and tables from what results/ holds, no training: results/figures/*.png, results/tables/*."""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bnrepro import figures, report, results
from bnrepro.figures import (
    ablation,
    ensemble,
    grid,
    imagenet,
    inference,
    noise,
    placement,
    regularization,
    small_batches,
    tolerance,
    why,
)

PAPER = pd.read_csv(Path(__file__).resolve().parents[1] / "results" / "paper.csv")  # the published numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="read and written (%(default)s)"
    )
    folder = parser.parse_args().results
    for name, make in MAKERS.items():
        try:
            for stem, made in make(results.load(folder / f"{name}.parquet")):
                for path in write(folder, stem, made):
                    print(path)
        except ValueError as reason:  # MissingData, or a table that holds more than one figure's runs
            print(f"figures: {name} skipped: {reason}", file=sys.stderr)
    return 0


def figure1(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    regimes = results.regimes(frame)
    for regime, rows in regimes.items():
        yield f"figure1_{regime}", figures.figure1(rows)
        yield f"figure1_{regime}", results.figure1_table(rows)
    yield "figure1_regimes", figures.figure1_regimes(regimes)


def sensitivity(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "sensitivity_mnist", figures.sensitivity(frame)


MAKERS = {  # by experiment: frame -> (stem, figure or table), ...
    "fig1_mnist": figure1,
    "sensitivity_mnist": sensitivity,
    "design_grid": grid.published,
    "tolerance_maps": tolerance.published,
    "batch_noise": noise.published,
    "dropout_bn": regularization.published,
    "small_batches": small_batches.published,
    "inference_stats": inference.published,
    "placement": placement.published,
    "why_it_works": why.published,
    "fig2_imagenet": partial(imagenet.published, paper=PAPER),
    "fig2_imagenet_gpu": partial(imagenet.published, suffix="_gpu", paper=PAPER),
    "ablation_imagenet": ablation.published,
    "fig4_ensemble": partial(ensemble.published, paper=PAPER),
}


def write(folder: Path, stem: str, made: Figure | pd.DataFrame) -> list[Path]:
    if isinstance(made, Figure):
        path = folder / "figures" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path, dpi=200, metadata={"Software": None})  # the same data give the same bytes
        return [path]
    paths = [folder / "tables" / f"{stem}.csv", folder / "tables" / f"{stem}.md"]
    results.write_text(paths[0], made.to_csv(index=False, float_format="%.6g"))
    results.write_text(paths[1], report.effects_markdown(made))
    return paths


if __name__ == "__main__":
    sys.exit(main())
