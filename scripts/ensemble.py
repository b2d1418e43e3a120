"""Figure 4: judge the finished nets of an experiment one by one and as an ensemble, image by image.

Reads outputs/<experiment>/ and writes results/<experiment>.parquet (one row per network, image and number of
crops) and .json. BN uses population statistics (Algorithm 2). The first seeds of all variants are one ensemble, the
second ones another. With data.holdout the test set judges, and the images held out say which member is the best.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from multiprocessing import active_children
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch

from bnrepro import machine
from bnrepro.analysis import collect
from bnrepro.config import IMAGES, Config, ConfigError
from bnrepro.config.compose import from_file, places
from bnrepro.data import Dataset, load
from bnrepro.data.dataset import Images
from bnrepro.measure.ensemble import CROPS, judged, probabilities
from bnrepro.progress import counted
from bnrepro.runs.ending import ended_by
from bnrepro.runs.folder import RunFolder, nearest_folder
from bnrepro.runs.trained import with_population


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiment", nargs="?", default="fig4_ensemble", help="default: %(default)s")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    parser.add_argument("--data", help="data.root, where it is not the one the nets were trained with")
    args = parser.parse_args()
    try:
        return ensemble(args)
    except BaseException as error:
        return ended_by(error, OSError, ValueError, resumes=False)


def ensemble(args: argparse.Namespace) -> int:
    folder = args.outputs / args.experiment
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder{nearest_folder(folder)}")
    there = {place: list(RunFolder.below(place)) for place in places(args.experiment, args.outputs)}
    runs = [run for found in there.values() for run in found]
    states = {run: run.status().get("state", "not begun") for run in runs}
    finished = [run for run, state in states.items() if state == "finished"]
    if waiting := [f"{run} is {state}" for run, state in states.items() if state != "finished"]:
        raise ConfigError(f"{waiting[0]}: an ensemble is of finished nets; the same training command goes on")
    if len(finished) < 2:
        raise ConfigError(
            f"{folder} has {len(finished)} finished runs, an ensemble needs "
            f"two: scripts/train.py -m experiment={args.experiment}"
        )
    for place in (place for place, found in there.items() if not found):
        print(f"ensemble: not trained, and so not in it: {place}", file=sys.stderr)
    nets: Nets = {}
    facts, cfg = [], None
    for run in finished:
        before, cfg = cfg, from_file(run.config)
        if cfg.data.name not in IMAGES:
            raise ConfigError(
                f"{run}: crops are of colour images ({', '.join(IMAGES)}), not of {cfg.data.name}"
            )
        cfg.data.root = args.data or cfg.data.root
        if before and (before.data, before.steps) != (cfg.data, cfg.steps):
            raise ConfigError(f"{run}: other data or steps than the others of the ensemble")
        if before and len(before.seeds) != len(cfg.seeds):
            raise ConfigError(
                f"{run}: {len(cfg.seeds)} seeds, another variant has {len(before.seeds)}; the first seeds of all"
                " variants are an ensemble: train those that lack with seeds=..."
            )
        if any(cfg.variant == other.variant for other, _ in nets.values()):
            raise ConfigError(f"{run}: one run is wanted of each variant")
        nets |= {(run, seed): (cfg, number) for number, seed in enumerate(cfg.seeds)}
        identity = {"run": run.name, "experiment": cfg.experiment, "variant": cfg.variant}
        facts.append(identity | {"seeds": cfg.seeds, "provenance": run.status()["provenance"]})
    assert cfg is not None
    data = load(cfg.data, cfg.model)
    members = probabilities_of(nets, data)
    parts = []
    for (number, prefix, crops), each in members.items():
        labels = data.eval_labels if prefix else tested(data)[1]
        for name, what, right in judged(each, labels):
            rows = {
                "variant": name,
                "name": f"{prefix}{what}/{crops}",
                "seed": number,
                "value": right.double().numpy(),
            }
            parts.append(pd.DataFrame(rows | {"image": range(len(right))}))
    frame = pd.concat(parts, ignore_index=True).assign(experiment=args.experiment, step=cfg.steps)
    extra = {"data.name": cfg.data.name, "data.num_classes": cfg.data.num_classes, "data.size": cfg.data.size}
    frame = frame.assign(**extra, **{"model.multiplier": cfg.resolved()["model"]["multiplier"]})
    columns = [*collect.KEYS, "image", *extra, "model.multiplier"]
    tidy = collect.Collected(frame.loc[:, columns], facts, [])
    saved = collect.save(tidy, args.results / args.experiment)
    for crops, net in product(CROPS, [*(run["variant"] for run in facts), "ensemble"]):
        rows = frame[(frame["variant"] == net) & (frame["name"] == f"correct/{crops}")]
        print(f"{crops:7s} {net:9s} top-1 error {1 - rows['value'].mean():.1%}")
    print(*saved, sep="\n")
    return 0


class Place(NamedTuple):
    """Where an answer belongs: the number of the ensemble, "val_" for images to choose by, the crops."""

    number: int
    prefix: str
    crops: str


# By run and seed: its configuration, and the number of the ensemble it is in.
Nets: TypeAlias = dict[tuple[RunFolder, int], tuple[Config, int]]
_data: list[Dataset] = []  # what forked processes see


def probabilities_of(nets: Nets, data: Dataset) -> dict[Place, dict[str, torch.Tensor]]:
    """Class probabilities by place and variant; the nets are shared out among the cores, a net a process."""
    _data[:] = [data]
    members: dict[Place, dict[str, torch.Tensor]] = {}
    with (
        machine.pool(min(machine.cores(), len(nets)), partial(torch.set_num_threads, 1)) as pool,
        counted("judging", len(nets), "nets") as update,
    ):
        jobs = [pool.submit(_answers, run, cfg, seed, number) for (run, seed), (cfg, number) in nets.items()]
        update(0, "")
        try:
            for done, ((run, seed), (cfg, _), job) in enumerate(
                zip(nets, nets.values(), jobs, strict=True), 1
            ):
                for place, p in machine.results([job])[0]:
                    if not np.isfinite(p).all():
                        words = f"{run}: seed {seed} diverged, it has no probabilities; train another seed"
                        raise ConfigError(words)
                    members.setdefault(place, {})[cfg.variant] = torch.from_numpy(p)
                update(done, "")
        except (
            BaseException
        ):  # else the pool's end waits for the nets at work, minutes each, and for all others
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.kill()
            raise
    return members


def _answers(run: RunFolder, cfg: Config, seed: int, number: int) -> list[tuple[Place, np.ndarray]]:
    """Arrays travel, not tensors: a tensor sent from process to process takes a place in /dev/shm."""
    (data,) = _data
    return [(place, p.numpy()) for place, p in answers(with_population(run, cfg, data, seed), data, number)]


def tested(data: Dataset) -> tuple[Images, torch.Tensor]:
    """The test images and their labels, also where a validation split was held out."""
    if data.test_labels is None:
        return data.eval_images, data.eval_labels
    return data.test_images, data.test_labels


def answers(model: torch.nn.Module, data: Dataset, number: int) -> Iterator[tuple[Place, torch.Tensor]]:
    """Class probabilities of the test images by each number of crops, and of held-out ones by one."""
    images, _ = tested(data)
    for crops, count in CROPS.items():
        yield Place(number, "", crops), probabilities(model, data, images, count)
    if images is not data.eval_images:
        yield Place(number, "val_", "single"), probabilities(model, data, data.eval_images, 1)


if __name__ == "__main__":
    sys.exit(main())
