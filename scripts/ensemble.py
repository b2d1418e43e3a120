"""Figure 4: judge the finished nets of an experiment one by one and as an ensemble, image by image.

Reads outputs/<experiment>/ and writes results/<experiment>.parquet (one row per network, image and number of
crops) and .json. BN uses population statistics (Algorithm 2).
"""

import argparse
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from bnrepro.analysis import collect
from bnrepro.config import ConfigError
from bnrepro.config.compose import from_file, places
from bnrepro.config.refusal import one_line
from bnrepro.data import load
from bnrepro.measure.ensemble import CROPS, judged, probabilities
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import REFUSALS
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
    except (*REFUSALS, OSError, ValueError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2


def ensemble(args: argparse.Namespace) -> int:
    runs = [run for place in places(args.experiment, args.outputs) for run in RunFolder.below(place)]
    finished = [run for run in runs if run.status().get("state") == "finished"]
    if len(finished) < 2:
        raise ConfigError(
            f"{args.outputs / args.experiment} has {len(finished)} finished runs, an ensemble needs "
            f"two: scripts/train.py -m experiment={args.experiment}"
        )
    members: dict[str, dict[str, torch.Tensor]] = {crops: {} for crops in CROPS}
    facts, cfg, data = [], None, None
    for run in finished:
        before, cfg = cfg, from_file(run.config)
        cfg.data.root = args.data or cfg.data.root
        if before and (before.data, before.steps) != (cfg.data, cfg.steps):
            raise ConfigError(f"{run}: other data or steps than the others of the ensemble")
        if cfg.variant in members["single"] or len(cfg.seeds) > 1:
            raise ConfigError(f"{run}: one run of one seed is wanted of each variant")
        data = data or load(cfg.data, cfg.model)
        model = with_population(run, cfg, data)
        print(f"{cfg.variant}: {len(data.eval_labels)} images", flush=True)
        for crops, count in CROPS.items():
            members[crops][cfg.variant] = probabilities(model, data, count)
            if not members[crops][cfg.variant].isfinite().all():
                raise ConfigError(f"{run}: this net diverged, it has no probabilities; train another seed")
        identity = {"run": run.name, "experiment": cfg.experiment, "variant": cfg.variant}
        facts.append(identity | {"seeds": cfg.seeds, "provenance": run.status()["provenance"]})
    assert cfg is not None and data is not None
    parts = []
    for crops in CROPS:
        for name, what, right in judged(members[crops], data.eval_labels):
            rows = {"variant": name, "name": f"{what}/{crops}", "value": right.double().numpy()}
            parts.append(pd.DataFrame(rows | {"image": range(len(right))}))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame.assign(experiment=args.experiment, seed=0, step=cfg.steps)
    extra = {"data.name": cfg.data.name, "data.num_classes": cfg.data.num_classes, "data.size": cfg.data.size}
    frame = frame.assign(**extra, **{"model.multiplier": cfg.resolved()["model"]["multiplier"]})
    columns = [*collect.KEYS, "image", *extra, "model.multiplier"]
    tidy = collect.Collected(frame.loc[:, columns], facts, [])
    saved = collect.save(tidy, args.results / args.experiment)
    for crops, net in product(CROPS, [*members["single"], "ensemble"]):
        rows = frame[(frame["variant"] == net) & (frame["name"] == f"correct/{crops}")]
        print(f"{crops:7s} {net:9s} top-1 error {1 - rows['value'].mean():.1%}")
    print(*saved, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
