"""Made-up runs of dropout_bn, small_batches, inference_stats and placement, with effects put in by hand."""

from itertools import product

import numpy as np
import pandas as pd

Rows = list[dict[str, object]]


def tidy(rows: Rows, experiment: str, **settings: object) -> pd.DataFrame:
    always = {"data.name": "mnist", "data.holdout": 0, "model.init_std": 0.1, "regime": "default"}
    return pd.DataFrame(rows).assign(experiment=experiment, **{**always, **settings})


def luck(*key: float) -> float:
    return float(np.random.default_rng([int(1000 * k) for k in key]).normal())


def dropout_bn(seeds: int = 5, cost: float = 0.0, together: float = 0.3, tax: float = 0.0) -> pd.DataFrame:
    """Removing dropout costs BN `cost` of accuracy, and using it with BN costs `tax`.

    The gap is 0.6 of the bare net's with BN or dropout, `together` of it with both.
    """
    rows: Rows = []
    sizes = {1000: 0.1, 5000: 0.05, 0: 0.02}
    rates = (0, 0.05, 0.1, 0.2, 0.3, 0.5)
    nets = product(("sigmoid", "relu"), ("baseline", "bn"), rates, sizes.items(), range(seeds))
    for activation, arm, rate, (images, gap), seed in nets:
        bn, dropout = arm == "bn", rate > 0
        test = 0.98 - gap + 0.002 * luck(seed) + 0.0003 * luck(seed, rate, images, bn)
        test += (cost - tax if bn else 0.004) * dropout - 0.002 * rate
        share = together if bn and dropout else 0.6 if bn or dropout else 1.0
        run = {"variant": arm, "seed": seed, "model.dropout": rate, "data.examples": images, "step": 4000}
        run["model.activation"] = activation
        train = test + gap * (share + 0.01 * luck(seed, rate, bn))
        values = {"test/accuracy": test, "val/accuracy": test - 0.001, "train/accuracy_eval": train}
        rows += [{**run, "name": name, "value": value} for name, value in values.items()]
        rows.append({**run, "step": 0, "name": "val/accuracy", "value": 0.1})
    return tidy(
        rows,
        "dropout_bn",
        **{"data.holdout": 10_000, "data.batch_size": 60, "train.steps": 4000, "optim.lr": 0.1},
    )


METHODS = ("baseline", "bn", "bn_renorm", "bn_ghost", "groupnorm", "layernorm", "weightnorm")


def small_batches(seeds: int = 5, sizes: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256)) -> pd.DataFrame:
    """BN suffers at small batches; its exact statistics repair half of it; Ghost BN is BN up to 16.

    Seed 0 of the baseline diverges at batch size 256.
    """
    rows: Rows = []
    for size, method, seed in product(sizes, METHODS, range(seeds)):
        noise = 0.001 * luck(seed, size) + 0.0003 * luck(seed, size, METHODS.index(method))
        hurt = {"bn": 0.4, "bn_renorm": 0.15, "bn_ghost": 0.4}.get(method, 0.0) / size
        error = {"baseline": 0.03, "weightnorm": 0.027}.get(method, 0.022) + 0.00003 * size + hurt
        if method == "bn_ghost":
            error += 0.001 if size > 16 else 0
            noise = 0.001 * luck(seed, size) + 0.0003 * luck(seed, size, 1) if size <= 16 else noise
        steps = 120_000 // size
        run = {"variant": method, "seed": seed, "data.batch_size": size, "train.steps": steps}
        run |= {"optim.lr": 0.1}
        lost = method == "baseline" and size == 256 and seed == 0
        rows.append({**run, "step": 0, "name": "test/accuracy", "value": 0.1})
        value = np.nan if lost else 1 - error - noise
        rows.append({**run, "step": steps, "name": "test/accuracy", "value": value})
        if lost:
            rows.append({**run, "step": 40, "name": "diverged_at", "value": 40.0})
        if method == "bn":
            exact = 1 - error - noise + hurt * (0.5 + 0.01 * luck(seed, size))
            rows.append({**run, "step": steps, "name": "test/accuracy_population", "value": exact})
    return tidy(rows, "small_batches")


def inference_stats(seeds: int = 5, momenta: tuple[float, ...] = (0.01, 0.1, 0.5)) -> pd.DataFrame:
    """Moving averages forget their start as (1 - momentum)^step; at 0.5 and batch 4 they stay behind."""
    rows: Rows = []
    at = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000]
    for momentum, size, seed in product(momenta, (4, 16, 60, 256), range(seeds)):
        for step in at:
            exact = 0.1 + (0.87 - 0.1 / size + 0.002 * luck(seed, size)) * (1 - np.exp(-step / 300))
            moving = exact - (exact - 0.1) * (1 - momentum) ** step - 0.2 * momentum**2 / size * (step > 0)
            batch = exact - (0.2 + 0.01 * luck(seed, step)) / size * (step > 0)
            run = {"variant": "bn", "seed": seed, "model.bn_momentum": momentum, "data.batch_size": size}
            values = {"": moving + 0.0002 * luck(seed, step), "_population": exact, "_batch": batch}
            rows += [
                {**run, "step": step, "name": f"test/accuracy{end}", "value": value}
                for end, value in values.items()
            ]
    return tidy(rows, "inference_stats", **{"train.steps": 4000, "optim.lr": 0.1})


def placement(seeds: int = 5, after: float = -0.01, bias_after: float = 0.004) -> pd.DataFrame:
    """BN after the nonlinearity changes accuracy by `after`; the bias helps by `bias_after`, only there."""
    rows: Rows = []
    for activation, seed in product(("sigmoid", "relu"), range(seeds)):
        top = (0.97 if activation == "sigmoid" else 0.98) + 0.002 * luck(seed, activation == "relu")
        same = {"seed": seed, "model.activation": activation, "step": 5000, "name": "test/accuracy"}
        base = {"model.placement": "before", "model.affine": True, "model.bias": "auto"}
        rows.append({**same, **base, "variant": "baseline", "value": top - 0.02 + 0.001 * luck(seed, 9)})
        for where, affine, bias in product(("before", "after"), (True, False), ("on", "off")):
            value = top + 0.0003 * luck(seed, where == "after", affine, bias == "on")
            value += (after + bias_after * (bias == "on")) * (where == "after") - 0.006 * (not affine)
            cell = {"model.placement": where, "model.affine": affine, "model.bias": bias}
            for name in ("test/accuracy", "test/accuracy_population"):
                rows.append({**same, **cell, "variant": "bn", "value": value, "name": name})
    return tidy(rows, "placement", **{"data.batch_size": 60, "train.steps": 5000, "optim.lr": 0.1})
