"""Made-up results of the MNIST study's grid, tolerance maps and batch noise, with the shape of real ones."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

BATCHES = [8, 16, 32, 60, 128, 256, 512]
RATES = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
STDS = [0.01, 0.03, 0.1, 0.3, 1.0]


def tidy(rows: list[dict], experiment: str, **settings: object) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame.insert(0, "experiment", experiment)
    always = {"data.name": "mnist", "data.holdout": 0, "model.init_std": 0.1, "optim.lr": 0.1}
    return frame.assign(**{key: v for key, v in (always | settings).items() if key not in frame})


def _long(where: dict, step: int, values: dict[str, float]) -> Iterator[dict]:
    yield from ({**where, "step": step, "name": name, "value": value} for name, value in values.items())


def design_grid(seeds: int = 3, evaluations: int = 20, bn_gain: float = 0.5) -> pd.DataFrame:
    """What matters is rate x steps, below the rate a net bears: it counts for more with BN, which bears more."""
    rows = []
    tried = [*(("linear", rate) for rate in (0.1, 0.4, 1.6, 6.4)), ("constant", 0.1)]
    for arm, activation, dropout, batch, (rule, lr), seed in product(
        ("baseline", "bn"), ("sigmoid", "relu"), (0.0, 0.5), BATCHES, tried, range(seeds)
    ):
        if rule == "constant" and batch == 60:
            continue  # the run at the linear rate
        random = np.random.default_rng(
            [seed, batch, activation == "relu", arm == "bn", int(dropout * 2), int(10 * lr), len(rule)]
        )
        total = 1_000_000 // batch
        where = {"variant": arm, "model.activation": activation, "model.dropout": dropout, "seed": seed}
        where |= {"data.batch_size": batch, "optim.batch_rule": rule, "optim.lr": lr, "train.steps": total}
        rate = lr * batch / 60 if rule == "linear" else lr
        speed = rate * 600 / batch * (3 if activation == "relu" else 1) * (1 - dropout / 2)
        speed *= (1 + bn_gain) if arm == "bn" else 1
        over = rate > (10 if arm == "bn" else 1)
        for step in [*range(0, total, -(-total // evaluations)), total]:  # as a run with eval.points
            error = 0.02 + 0.88 / (1 + 12 * speed * step / total) + random.normal(0, 0.002) * (step > 0)
            error = 0.9 if over else error
            values = {"val/accuracy": 1 - error, "val/loss": 3 * error, "train/loss": 2.9 * error}
            if step == total:
                values["test/accuracy"] = 1 - error
                if arm == "bn":
                    values["test/accuracy_population"] = 1 - error + 0.001
            rows += _long(where, int(step), values)
    return tidy(rows, "design_grid", regime="grid")


def tolerance_maps(seeds: int = 3, reach: float = 100.0) -> pd.DataFrame:
    """Rates up to 1 train the baseline, rates up to `reach` BN; beyond, every other seed's loss is NaN."""
    rows = []
    for arm, activation, rate, std, seed in product(
        ("baseline", "bn"), ("sigmoid", "relu"), RATES, STDS, range(seeds)
    ):
        random = np.random.default_rng([seed, int(1000 * rate), int(100 * std)])
        best, limit = (0.3, 1.0) if arm == "baseline" else (1.0, reach)
        cost = 0.03 * np.log10(rate / best) ** 2 + (0.05 if arm == "baseline" else 0.005) * abs(
            np.log10(std / 0.1)
        )
        over = rate > limit
        value = 0.1 + 0.001 * seed if over else 0.97 - cost + random.normal(0, 0.001)
        where = {"variant": arm, "model.activation": activation, "optim.lr": rate, "model.init_std": std}
        where |= {"seed": seed}
        rows += _long(where, 0, {"val/accuracy": 0.1})
        rows += _long(where, 2000, {"val/accuracy": np.nan if over and seed % 2 else value})
        if over and seed % 2:
            rows += _long(where, 37, {"diverged_at": 37.0})
    settings = {"regime": "maps", "data.holdout": 10_000, "data.batch_size": 60, "train.steps": 2000}
    return tidy(rows, "tolerance_maps", **settings)


def batch_noise(seeds: int = 5, kurtosis: float = 4.0, regularized: str = "bn") -> pd.DataFrame:
    """Noise as independent draws have it. The gap of the variant `regularized` grows with the batch size.

    Ghost BN at 128 has the gap of a batch of 16.
    """
    rows = []
    m = np.array(BATCHES)
    theory = {"mu": 1 / m, "var": (m - 1) ** 2 / m**3 * (kurtosis - (m - 3) / (m - 1)), "logit": 3.0 / m}
    nets = [*product(("baseline", "bn", "bn_frozen"), BATCHES), ("bn_ghost", 128)]
    for (arm, batch), seed in product(nets, range(seeds)):
        random = np.random.default_rng([seed, batch, len(arm)])
        total = 300_000 // batch
        where = {"variant": arm, "seed": seed, "data.batch_size": batch, "train.steps": total}
        m_of = 16 if arm == "bn_ghost" else batch
        grows = arm.replace("_ghost", "") == regularized
        gap = 0.04 + (0.004 * np.log2(m_of / 8) if grows else 0.0) + random.normal(0, 0.0005)
        rows += _long(where, 0, {"test/accuracy": 0.1, "train/accuracy_eval": 0.1})
        values = {"test/accuracy": 0.99 - gap, "train/accuracy_eval": 0.99, "test/loss": 3 * gap}
        values |= {"train/loss_eval": 0.01, "test/accuracy_population": 0.99 - gap}
        if arm == "bn":
            for what, curve in theory.items():
                measured = curve * np.exp(random.normal(0, 0.1, m.size))
                values |= {f"noise/{what}/m{size}": v for size, v in zip(BATCHES, measured, strict=True)}
            values["noise/kurtosis"] = kurtosis
        rows += _long(where, total, values)
    return tidy(rows, "batch_noise", regime="noise", **{"data.examples": 5000})
