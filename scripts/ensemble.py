"""Figure 4: judge the finished nets of an experiment one by one and as an ensemble, image by image.

Reads outputs/<experiment>/ and writes results/<experiment>.parquet (one row per network, image and number of
crops) and .json. BN uses population statistics (Algorithm 2).
"""

import argparse
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch
import yaml
from omegaconf import OmegaConf

from bnrepro import results
from bnrepro.composed import CONF as CONF_ROOT
from bnrepro.composed import declared
from bnrepro.config import Config, ConfigError
from bnrepro.data import load
from bnrepro.ensemble import CROPS, judged, probabilities
from bnrepro.evaluate import training_batches
from bnrepro.models import build
from bnrepro.norm import population_statistics
from bnrepro.refusal import one_line
from bnrepro.replicas import POPULATION_BATCHES
from bnrepro.run import REFUSALS

CONF = Path(CONF_ROOT) / "experiment"


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
    found = sorted((args.outputs / args.experiment).glob("*/*/run.json"))
    own = declared(args.experiment, args.outputs) if (CONF / f"{args.experiment}.yaml").exists() else None
    runs = [path.parent for path in found if own is None or path.parent in own]
    status = {run: json.loads((run / "run.json").read_text()) for run in runs}
    finished = [run for run in runs if status[run]["state"] == "finished"]
    if len(finished) < 2:
        raise ConfigError(
            f"{args.outputs / args.experiment} has {len(finished)} finished runs, an ensemble needs "
            f"two: scripts/train.py -m experiment={args.experiment}"
        )
    members: dict[str, dict[str, torch.Tensor]] = {crops: {} for crops in CROPS}
    facts, cfg, data = [], None, None
    for run in finished:
        before, cfg = cfg, configuration(run, args.data)
        if before and (before.data, before.train.steps) != (cfg.data, cfg.train.steps):
            raise ConfigError(f"{run}: other data or steps than the others of the ensemble")
        if cfg.variant in members["single"] or len(cfg.seeds) > 1:
            raise ConfigError(f"{run}: one run of one seed is wanted of each variant")
        data = data or load(cfg.data, cfg.model)
        model = trained(run, cfg, data)
        print(f"{cfg.variant}: {len(data.eval_labels)} images", flush=True)
        for crops, count in CROPS.items():
            members[crops][cfg.variant] = probabilities(model, data, count)
            if not members[crops][cfg.variant].isfinite().all():
                raise ConfigError(f"{run}: this net diverged, it has no probabilities; train another seed")
        identity = {"run": "/".join(run.parts[-3:]), "experiment": cfg.experiment, "variant": cfg.variant}
        facts.append(identity | {"seeds": cfg.seeds, "provenance": status[run]["provenance"]})
    assert cfg is not None and data is not None
    parts = []
    for crops in CROPS:
        for name, what, right in judged(members[crops], data.eval_labels):
            rows = {"variant": name, "name": f"{what}/{crops}", "value": right.double().numpy()}
            parts.append(pd.DataFrame(rows | {"image": range(len(right))}))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame.assign(experiment=args.experiment, seed=0, step=cfg.train.steps)
    extra = {"data.name": cfg.data.name, "data.num_classes": cfg.data.num_classes, "data.size": cfg.data.size}
    frame = frame.assign(**extra, **{"model.multiplier": cfg.model.multiplier})
    columns = [*results.KEYS, "image", *extra, "model.multiplier"]
    tidy = results.Collected(frame.loc[:, columns], facts, [])
    saved = results.save(tidy, args.results / args.experiment)
    for crops, net in product(CROPS, [*members["single"], "ensemble"]):
        rows = frame[(frame["variant"] == net) & (frame["name"] == f"correct/{crops}")]
        print(f"{crops:7s} {net:9s} top-1 error {1 - rows['value'].mean():.1%}")
    print(*saved, sep="\n")
    return 0


def configuration(run: Path, root: str | None) -> Config:
    given = OmegaConf.merge(OmegaConf.structured(Config), yaml.safe_load((run / "config.yaml").read_text()))
    cfg = OmegaConf.to_object(given)
    assert isinstance(cfg, Config)
    cfg.data.root = root or cfg.data.root
    return cfg


def trained(run: Path, cfg: Config, data) -> torch.nn.Module:
    """The first seed's network at the end of its training, with population statistics."""
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["replicas"]
    model = build(replace(cfg.model, sync=False), data.shape, data.classes)
    model.load_state_dict({k: v[0] for part in ("params", "buffers") for k, v in state[part].items()})
    share = cfg.data.batch_size // (1 if cfg.model.sync else cfg.train.processes)
    batches = training_batches(data, share, cfg.seeds[0], POPULATION_BATCHES)
    population_statistics(model, batches)
    return model


if __name__ == "__main__":
    sys.exit(main())
