# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Before or after the nonlinearity, with or without gamma, beta and a bias
#
# Section 3.2 of [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167) puts Batch Normalization (BN) on
# `Wu`, before the nonlinearity, because the output of a nonlinearity changes its shape during training,
# while `Wu` is "more Gaussian". It drops the bias, which the subtracted mean cancels and beta replaces, and
# it adds gamma and beta, so that BN can represent the identity. Whether before or after is better has been
# disputed since.
#
# The experiment crosses all three choices, for sigmoid and ReLU nets on MNIST. Seeds are paired: the same
# seed has the same initial weights and batches in all nets. Nothing is trained here.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import placement
from bnrepro.analysis.figures.placement import placement as dots

folder = tidy.results()
frame = tidy.load(folder / "placement.parquet")
figures.setting(frame)

# %% [markdown]
# ## The effects
#
# Left: a main effect is the difference between two levels of one choice, averaged over the others; an
# interaction (below the dotted line) is how much one effect changes with another choice. Right: every net
# with BN against the net without. Filled dots are clear after correction for all dots of the column.
#
# One number is known beforehand: with BN before the nonlinearity a bias cannot change the function, so that
# the bias should matter, if at all, only after it.

# %%
dots(frame)

# %% [markdown]
# ## The numbers
#
# In points of final test accuracy, paired by seed; 95% t intervals; `p (Holm)` from a
# paired t-test, corrected for all rows of a table. A run that diverged counts as chance (10%).

# %%
factorial, gains = placement.effects_table(frame), placement.gains_table(frame)
display(Markdown(report.effects_markdown(factorial)))
display(Markdown(report.effects_markdown(gains)))

# %%
for name, table in (
    ("effect", factorial),
    ("BN - none", gains.assign(effect=gains.iloc[:, 1:4].agg(", ".join, axis=1))),
):
    for row in table[table["p_holm"] < 0.05].to_dict("records"):
        change = report.format_interval(row["unit"], row["value"], row["low"], row["high"])
        print(f"clear {name} ({row['activation']}): {row['effect']}: {change}")

# %% [markdown]
# ## Is it the net or its moving averages?
#
# The same effects, judged with population statistics (Algorithm 2): where the tables agree, the effect is
# one on training and not on the statistics used at inference.

# %%
display(Markdown(report.effects_markdown(placement.effects_table(frame, "test/accuracy_population"))))
print(report.origin(folder, "placement"))

# %% [markdown]
# ## What it means
#
# The printed list names what is clear at this number of seeds; the intervals of the other rows bound what
# could have been overlooked. All nets share one learning rate and one initialization, chosen for neither
# placement: a net whose best rate lies elsewhere is judged too harshly. After the nonlinearity, the last
# hidden layer's BN stands directly before the linear output layer, which is a different net and not only a
# different order.
