"""Every metric, declared once: its name, unit, meaning. Imports neither torch nor pandas.

A name that is not declared here is refused when it is logged.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

BINS = 64  # of a histogram of activations, equal ones; what lies outside is in the outermost
EDGES = [-8 + 16 * i / BINS for i in range(BINS + 1)]


class Metric(NamedTuple):
    name: str  # a regular expression: layers and sizes are part of names
    unit: str
    meaning: str
    when: str  # it is measured: the setting that asks for it, or "always"


METRICS = (
    Metric(
        r"train/loss", "nats", "cross-entropy, mean of the training steps since the previous row", "always"
    ),
    Metric(r"(test|val)/loss", "nats", "cross-entropy over the split (BN: moving averages)", "always"),
    Metric(
        r"(test|val)/accuracy", "share", "of the split classified correctly (BN: moving averages)", "always"
    ),
    Metric(r"(test|val)/top5", "share", "whose class is among the five most likely", "colour images"),
    Metric(
        r"(test|val)/(loss|accuracy|top5)_population",
        "as above",
        "BN by population statistics (Algorithm 2), images varied as in training",
        "at the last step; eval.population_curve, eval.inference: always",
    ),
    Metric(
        r"(test|val)/(loss|accuracy|top5)_population_plain",
        "as above",
        "BN by population statistics of plain images",
        "at the last step, where training varies its images",
    ),
    Metric(
        r"(test|val)/(loss|accuracy|top5)_batch",
        "as above",
        "BN by the statistics of test batches of the training size",
        "eval.inference",
    ),
    Metric(
        r"train/(loss|accuracy|top5)_eval",
        "as above",
        "10,000 training images (or all, if fewer), in evaluation mode",
        "eval.train",
    ),
    Metric(
        r"noise/(mu|var)/m\d+",
        "ratio",
        "variance of one unit's batch mean / sigma^2, of its batch variance / sigma^4",
        "eval.noise",
    ),
    Metric(r"noise/logit/m\d+", "logits^2", "variance over an example's mini-batch companions", "eval.noise"),
    Metric(r"noise/kurtosis", "ratio", "of that unit over the training set", "eval.noise"),
    Metric(
        r"probe/\w+/(typical|all)/p(15|50|85)",
        "activation",
        "percentile of a nonlinearity's input; one unit, or all",
        "eval.probe",
    ),
    Metric(
        r"probe/\w+/unit\d+/p(15|50|85)",
        "activation",
        "the same of every single unit, densely at first, then at every tenth evaluation",
        "eval.units",
    ),
    Metric(
        r"(val_)?correct5?/(single|10crop|144crop)",
        "0 or 1",
        "whether one image is right (top-1, top-5); val_: one that was held out, to choose by",
        "ensembles",
    ),
    Metric(
        r"ics(_next)?/(hidden\d+|classifier)/(l2|cosine)",
        "gradient, cosine",
        "a layer's gradient before and after its predecessors step; _next: of the next mini-batch",
        "eval.diagnose",
    ),
    Metric(r"landscape/(loss|gradient_norm)", "nats", "of a fixed mini-batch", "eval.diagnose"),
    Metric(
        r"landscape/loss_(low|high)",
        "nats",
        "lowest, highest loss along the gradient, steps of 1/4 to 4 times the rate",
        "eval.diagnose",
    ),
    Metric(
        r"landscape/(gradient_change|smoothness)",
        "gradient",
        "largest change of the gradient there; the same / distance",
        "eval.diagnose",
    ),
    Metric(r"gradient/(hidden\d+|classifier)/norm", "gradient", "l2 norm of a layer's", "eval.diagnose"),
    Metric(
        r"jacobian(_linear)?/hidden\d+/(median|log_spread|from_one|gain)",
        "ratio, decades",
        "singular values of a layer's Jacobian in active directions; its gain for gradients",
        "eval.diagnose",
    ),
    Metric(
        r"units/hidden\d+/(saturated|dead)",
        "share",
        "of (example, unit) that is flat; of units flat for all",
        "eval.diagnose",
    ),
    Metric(r"diverged_at", "step", "first whose loss was not finite; absent where it always was", "always"),
)


class Undeclared(ValueError):
    """A number whose name is not declared."""


@functools.cache
def declared(name: str) -> Metric:
    """The metric of this name. Raises Undeclared, saying where to declare it."""
    for metric in METRICS:
        if re.fullmatch(metric.name, name):
            return metric
    raise Undeclared(f"metric {name!r} is not declared in bnrepro/measure/metrics.py")
