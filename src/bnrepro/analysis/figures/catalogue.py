"""Which experiment is shown by which figures and tables, and drawing them to files."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bnrepro import files
from bnrepro.analysis import figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.figures import (
    ablation,
    depth,
    ensemble,
    grid,
    imagenet,
    inference,
    noise,
    placement,
    regularization,
    search,
    small_batches,
    tolerance,
    why,
)

Made = Iterator[tuple[str, Figure | pd.DataFrame]]  # a file's stem, and what is written to it


def figure1(frame: pd.DataFrame) -> Made:
    regimes = tidy.regimes(frame)
    for regime, rows in regimes.items():
        yield f"figure1_{regime}", figures.figure1(rows)
        yield f"figure1_{regime}", tidy.figure1_table(rows)
    yield "figure1_regimes", figures.figure1_regimes(regimes)


def quick(frame: pd.DataFrame) -> Made:
    yield "fig1_quick", figures.figure1(frame)
    yield "fig1_quick", tidy.figure1_table(frame)


def sensitivity(frame: pd.DataFrame) -> Made:
    yield "sensitivity_mnist", figures.sensitivity(frame)


def inception(frame: pd.DataFrame, paper: pd.DataFrame, suffix: str = "") -> Made:
    yield from imagenet.published(frame, suffix, paper)
    yield from depth.published(frame, suffix)


ALONE: dict[str, Callable[[pd.DataFrame], Made]] = {
    "fig1_mnist": figure1,
    "fig1_quick": quick,
    "sensitivity_mnist": sensitivity,
    "design_grid": grid.published,
    "tolerance_maps": tolerance.published,
    "rate_multiples": tolerance.published_multiples,
    "batch_noise": noise.published,
    "dropout_bn": regularization.published,
    "small_batches": small_batches.published,
    "inference_stats": inference.published,
    "placement": placement.published,
    "why_it_works": why.published,
    "c7_inception": imagenet.published_multiples,
    "rates_fig2": imagenet.published_rates,
    "ablation_imagenet": ablation.published,
    "rates_limited": search.published,
    "sigmoid_inits": search.published_scales,
}
BESIDE_THE_PAPER: dict[str, Callable[..., Made]] = {  # these also take the published numbers
    "fig2_imagenet": inception,
    "fig2_imagenet_gpu": partial(inception, suffix="_gpu"),
    "fig2_limited": partial(inception, suffix="_limited"),
    "fig2_quick": partial(inception, suffix="_quick"),
    "fig4_ensemble": ensemble.published,
}
QUICK = ("fig1_quick", "fig2_quick")  # a user's own runs: nothing of them is published
EXPERIMENTS = (*ALONE, *BESIDE_THE_PAPER)


def draw(folder: Path, name: str, paper: pd.DataFrame) -> tuple[list[Path], str, bool]:
    """Write what one experiment's results in `folder` show: the paths, why there are no more, did it fail.

    `paper`: results/paper.csv. The same data give the same bytes. Results that are not there (MissingData)
    are no failure. Any other error is one; it is returned, so that the other experiments go on.
    """
    paths: list[Path] = []
    try:
        frame = tidy.load(folder / f"{name}.parquet")
        published = ALONE[name](frame) if name in ALONE else BESIDE_THE_PAPER[name](frame, paper=paper)
        for stem, made in published:
            paths += _write(folder, stem, made)
    except tidy.MissingData as reason:
        return paths, f"{name} skipped: {reason}", False
    except Exception as error:
        return paths, f"{name} failed: {type(error).__name__}: {error}", True
    return paths, "", False


def _write(folder: Path, stem: str, made: Figure | pd.DataFrame) -> list[Path]:
    if isinstance(made, Figure):
        path = folder / "figures" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path, dpi=200, metadata={"Software": None})
        return [path]
    paths = [folder / "tables" / f"{stem}.csv", folder / "tables" / f"{stem}.md"]
    files.write(paths[0], made.to_csv(index=False, float_format="%.6g"))
    files.write(paths[1], report.effects_markdown(made))
    return paths
