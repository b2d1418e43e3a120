"""What all figures share: one look per arm, the axis of steps, captions that say the setting.

Both arms keep one colour and one line style everywhere: the baseline orange and dashed, BN blue and solid.
The colours differ in all common kinds of colour blindness, the styles in print.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# (pandas' hints give every selection a union of table, column and scalar)

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bnrepro import results

ARMS = {
    "baseline": {"label": "without BN", "color": "#D55E00", "linestyle": (0, (4, 1.5))},
    "bn": {"label": "with BN", "color": "#0072B2", "linestyle": "-"},
}
DATA_SETS = {
    "mnist": "MNIST",
    "mnist5k": "MNIST (5,000 digits)",
    "tiny_imagenet": "Tiny ImageNet",
    "imagenette": "Imagenette",
    "shapes": "drawn shapes",
}
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def setting(frame: pd.DataFrame, rates: bool = True) -> str:
    """For captions: "MNIST, batch 60, 50,000 steps; rate 0.1; init std 0.05", without what varies."""
    words = []
    for column, form in (("data.name", "{}"), ("data.batch_size", "batch {}"), ("train.steps", "{:,} steps")):
        if column in frame and frame[column].nunique() == 1:
            value = frame[column].iloc[0]
            words.append(form.format(DATA_SETS.get(value, value)))
    return ", ".join(words) + (f"; {rates_of(frame)}" if rates else "")


def rates_of(frame: pd.DataFrame) -> str:
    words = []
    for column, name in (("optim.lr", "rate"), ("model.init_std", "init std")):
        if column in frame:
            by_arm = frame.groupby("variant")[column].unique()
            values = {arm: "/".join(f"{v:g}" for v in sorted(by_arm[arm])) for arm in ARMS if arm in by_arm}
            same = len(set(values.values())) == 1
            each = ", ".join(f"{value} {ARMS[arm]['label']}" for arm, value in values.items())
            words.append(f"{name} {next(iter(values.values())) if same else each}")
    return "; ".join(words)


def split(frame: pd.DataFrame) -> str:
    return {"test": "test", "val": "validation"}[results.accuracy_name(frame).split("/")[0]]


def steps_axis(ax: Axes, last: int) -> None:
    ax.set(xlim=(0, last), xlabel="training steps")
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}K" if x else "0"))


def caption(fig: Figure, *lines: str) -> None:
    fig.supxlabel("\n".join(lines), fontsize=7.5, color="#444444")
