"""For class: train small nets from a notebook (notebooks/14_lab.ipynb), a few seconds each.

On the 4,000 digits that come with the package; the net is that of the paper's Figure 1, 3 layers of 100 units.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ARMS = ("baseline", "bn")
SETTINGS = {
    "lr": "optim.lr",
    "init_std": "model.init_std",
    "activation": "model.activation",
    "dropout": "model.dropout",
    "batch_size": "data.batch_size",
    "steps": "train.steps",
}


@functools.cache
def outputs() -> TemporaryDirectory[str]:
    """A folder of this session, gone with it: the same training is not done twice."""
    return TemporaryDirectory(prefix="bnrepro-lab-")


def train(variant: str, **settings: object) -> pd.DataFrame:
    """Test accuracy in percent: a row an evaluation, indexed by the training step; a column a seed, of three.

    variant: "baseline" or "bn". Settings and their defaults: lr=0.1, the learning rate; init_std=0.1, of the initial
    weights; activation="sigmoid" (or "relu"); dropout=0; batch_size=60; steps=1000. A net that diverged guesses: 10%.
    Raises ConfigError for a setting or a value that does not exist.
    """
    import pandas as pd

    from bnrepro.config import ConfigError
    from bnrepro.config.commandline import quoted
    from bnrepro.config.compose import single
    from bnrepro.runs.folder import RunFolder
    from bnrepro.runs.run import run

    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise ConfigError(f"no setting of the lab: {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    given = [f"{SETTINGS[name]}={value}" for name, value in ({"steps": 1000} | settings).items()]
    cfg = single(
        ["experiment=fig1_quick", f"variant={variant}", f"output={quoted(outputs().name)}", "seeds=3", *given]
    )
    run(cfg, lambda done, remark: None)
    rows = [(r.step, r.seed, 100 * r.value) for r in RunFolder.of(cfg).rows() if r.name == "test/accuracy"]
    found = pd.DataFrame(rows, columns=["step", "seed", "accuracy"])
    return found.pivot(index="step", columns="seed", values="accuracy").fillna(10.0)


def plot(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Curves of `train` by variant: mean over seeds, and a band from the lowest to the highest."""
    import matplotlib
    from matplotlib.figure import Figure

    from bnrepro.analysis.figures import style

    look: Any = style.STYLE
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(style.WIDTH, 3), layout="constrained")
        ax = figure.subplots()
        for variant, accuracy in curves.items():
            style.band(ax, accuracy, **style.ARMS[variant])
        ax.set(ylabel="test accuracy, %", ylim=(0, 100))
        style.steps_axis(ax, max(accuracy.index[-1] for accuracy in curves.values()))
        ax.legend(loc="lower right")
        return figure


def compare(**choices: Sequence[object]) -> pd.DataFrame:
    """Both arms at each value of one setting, as in compare(lr=[0.1, 1]): final accuracy, lowest to highest seed.

    Raises ConfigError for anything but one setting with a list.
    """
    import pandas as pd

    from bnrepro.analysis.figures import style
    from bnrepro.config import ConfigError

    if len(choices) != 1 or any(isinstance(v, str) or not isinstance(v, Sequence) for v in choices.values()):
        raise ConfigError("compare takes one setting with a list of values, as in compare(lr=[0.1, 1])")
    ((name, values),) = choices.items()
    words = {}
    for variant in ARMS:
        finals = [train(variant, **{name: value}).iloc[-1] for value in values]
        words[style.ARMS[variant]["label"]] = [f"{final.min():.0f} to {final.max():.0f}%" for final in finals]
    return pd.DataFrame(words, index=pd.Index(values, name=name))
