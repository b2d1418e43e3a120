"""Made-up results of the Inception experiments: how soon a net reaches which accuracy is put in."""

from itertools import product

import numpy as np
import pandas as pd
from synthetic_study import _long, tidy

STEPS, EVERY, CHANCE = 4000, 100, 0.1
# variant: (rate, steps to Inception's best, highest accuracy); as in the paper, 31.0 : 13.3 : 2.1 : 2.7
NETS = {
    "inception": (0.0015, 4000, 0.60),
    "bn_baseline": (0.0015, 1700, 0.62),
    "bn_x5": (0.0075, 200, 0.64),
    "bn_x30": (0.045, 400, 0.70),
    "bn_x5_sigmoid": (0.0075, np.inf, 0.55),
    "inception_x5": (0.0075, np.inf, CHANCE),
    "inception_sigmoid": (0.0015, np.inf, CHANCE),
}
BLOCKS = ["conv1", "conv2", "3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
SETTINGS = {"data.name": "imagenette", "data.batch_size": 32, "train.steps": STEPS, "data.num_classes": 10}
SETTINGS |= {
    "data.size": 32,
    "model.multiplier": 0.25,
    "regime": "cpu",
    "data.holdout": 0,
    "optim.lr_scale": 1.0,
}


def figure2(
    seeds: int = 3, nets: dict | None = None, probes: bool = False, level: bool = True
) -> pd.DataFrame:
    """Accuracy rises as a power of time to its highest, through Inception's best at the step put in.

    Inception itself levels off at half of its steps, and creeps to its best at the last; unless `level` is false.
    """
    rows, at = [], np.arange(0, STEPS + 1, EVERY)
    goal = NETS["inception"][2]
    for (variant, (rate, arrives, top)), seed in product((NETS | (nets or {})).items(), range(seeds)):
        where = {"variant": variant, "seed": seed, "optim.lr": rate}
        power = 0.35
        if np.isfinite(arrives) and top > goal:
            power = np.log((goal - CHANCE) / (top - CHANCE)) / np.log(arrives / STEPS)
        shift = 0.01 * (seed - 1) * (top > 0.2)  # the same in all variants: seeds are paired
        time = at / STEPS
        if level and variant == "inception":
            time = np.minimum(2 * time, 1) * (0.999 + 0.001 * time)
        accuracy = CHANCE + (top - CHANCE) * time**power + shift * (at > 0)
        lost = variant == "inception_x5"
        for step, value in zip(at, accuracy, strict=True):
            value = np.nan if lost and step > 300 else round(value, 9)
            values = {"test/accuracy": value, "test/top5": (1 + value) / 2, "test/loss": 2.3 * (1 - value)}
            if step == STEPS and variant.startswith("bn"):
                values |= {"test/accuracy_population": value + 0.002, "test/top5_population": 0.9}
            if probes and step % 1000 == 0 and not (lost and step):
                values |= _probe(variant, int(step), seed)
            rows += _long(where, int(step), values)
        if lost:
            rows += _long(where, 300 + seed, {"diverged_at": 300.0 + seed})
    return tidy(rows, "fig2_imagenet", **SETTINGS)


def _probe(variant: str, step: int, seed: int) -> dict[str, float]:
    """Without BN inputs widen with depth and training, and wander; with BN they do neither."""
    values = {}
    for depth, block in enumerate(BLOCKS):
        grows = 1.0 if variant.startswith("bn") else 1.25**depth * (1 + step / STEPS)
        middle = -0.1 * grows + (0.02 if variant.startswith("bn") else 0.1) * grows * np.sin(step + seed)
        for unit in ("typical", "all"):
            bounds = {"p15": middle - grows, "p50": middle, "p85": middle + grows}
            values |= {f"probe/{block}/{unit}/{level}": v for level, v in bounds.items()}
    return values


def ablation(seeds: int = 3, effects: dict[str, float] | None = None, noise: float = 0.001) -> pd.DataFrame:
    """`effects` by variant, e.g. add_shuffle: accuracy a change brings; all others bring nothing."""
    rows, effects = [], effects or {}
    changes = ["rate", "nodropout", "l2", "decay", "nolrn", "shuffle", "distort"]
    variants = ["bn_baseline", "bn_x5", "bn_x5_lessdropout"]
    variants += [f"{way}_{change}" for way in ("add", "less") for change in changes]
    for variant, seed in product(variants, range(seeds)):
        random = np.random.default_rng([seed, *variant.encode()])
        sign = -1 if variant.startswith("less") else 1  # taking away what helps costs
        value = 0.6 + 0.02 * seed + sign * effects.get(variant, 0.0) + random.normal(0, noise)
        where = {"variant": variant, "seed": seed, "optim.lr": 0.0015}
        rows += _long(where, 0, {"test/accuracy": CHANCE})
        rows += _long(where, STEPS, {"test/accuracy": value - 0.05, "test/accuracy_population": value})
    return tidy(rows, "ablation_imagenet", **SETTINGS)


def ensemble(images: int = 500, gain: float = 0.05, classes: int = 10, number: int = 0) -> pd.DataFrame:
    """Six members that are right with probability 0.7; an ensemble right where the best is, `gain` more."""
    random, parts = np.random.default_rng(number), []
    for name, right in {"single": 0.70, "10crop": 0.73}.items():
        for top, more in {"correct": 0.0, "correct5": 0.2}.items():
            hard = random.random(images)  # the same images are hard for all
            nets = {f"ens{i}": hard + random.normal(0, 0.1, images) < right + more for i in range(1, 7)}
            best = max(nets.values(), key=np.sum)
            added = int(abs(gain) * images)
            wrong = np.flatnonzero(~best if gain > 0 else best)[:added]
            together = best.copy()
            together[wrong] = gain > 0
            for variant, correct in {**nets, "ensemble": together}.items():
                part = {"variant": variant, "seed": number, "step": STEPS, "name": f"{top}/{name}"}
                parts.append(pd.DataFrame({**part, "value": correct.astype(float), "image": range(images)}))
    frame = pd.concat(parts, ignore_index=True)
    frame.insert(0, "experiment", "fig4_ensemble")
    return frame.assign(**(SETTINGS | {"data.num_classes": classes}))


def ensembles(gains: tuple[float, ...], held_out: bool = True) -> pd.DataFrame:
    """Several ensembles of their own networks; held out, member 2 of each is the best."""
    parts = [ensemble(gain=gain, number=number) for number, gain in enumerate(gains)]
    if held_out:
        single = [part[part["name"] == "correct/single"] for part in parts]
        parts += [each.assign(name="val_correct/single", value=each["variant"] == "ens2") for each in single]
    return pd.concat(parts, ignore_index=True).astype({"value": float})
