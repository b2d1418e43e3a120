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
# # Figure 1: does Batch Normalization train an MNIST net faster, and does it steady its inputs?
#
# Section 4.1 of [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167) trains a net of three hidden
# layers of 100 sigmoids on binary MNIST images, for 50,000 steps of 60 examples, with and without Batch
# Normalization (BN). Its Figure 1 shows that the net with BN is more accurate throughout (a), and that the
# input to a typical sigmoid of the last hidden layer is steadier (b, c).
#
# The paper does not state the learning rate or the spread of the initial weights, and they decide the size
# of the effect. So there are two regimes, both with initial weights from N(0, 0.1²): *paper-like*, the
# textbook rate 0.1 for both arms, and *tuned*, each arm at its best rate of a grid of factor 1.5, trained at
# full length and judged on held-out training images (`experiment=fig1_rates`). Seeds are paired: the same
# seed has the same initial weights and the same batches in both arms.
# Everything here is read from `results/`; nothing is trained.

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from bnrepro.analysis import claims, figures, report
from bnrepro.analysis import frame as tidy

folder = tidy.results()
fig1 = tidy.load(folder / "fig1_mnist.parquet")
regimes = tidy.regimes(fig1)
{regime: figures.setting(frame) for regime, frame in regimes.items()}

# %% [markdown]
# ## Figure 1, paper-like
#
# As in the paper: the axis of (a) starts at 0.7, the lines of (b) and (c) are the {15, 50, 85}th
# percentiles of the input to one unit. The paper shows one network; here the bands are of all seeds.

# %%
figures.figure1(regimes["paper_like"])

# %% [markdown]
# ## The two regimes
#
# The same nets, each arm at its own best rate, next to the paper-like choice. The lower row is the
# upper end of the same curves, where the tuned nets differ, if they do.

# %%
display(figures.figure1_regimes(regimes), figures.figure1(regimes["tuned"]))

# %% [markdown]
# ## How much the unstated choices matter
#
# Validation accuracy after training with every combination of learning rate and initial standard deviation.
# No number in the panel has seen the test set. Nor has one in the table below it, from which the tuned rates
# come: accuracy on held-out training images at the last step and averaged over training, mean of three seeds,
# in percent. Both measures choose the same rate for an arm, though its neighbours are within the noise.

# %%
display(figures.sensitivity(tidy.load(folder / "sensitivity_mnist.parquet")))
rates = tidy.load(folder / "fig1_rates.parquet").query("name == 'val/accuracy'")
curves = rates.pivot(index="step", columns=["variant", "optim.lr", "seed"], values="value")
by_rate = pd.DataFrame(
    {"last step": curves.iloc[-1], "over training": tidy.mean_over_time(curves)}, curves.columns
)
display((100 * by_rate.groupby(["variant", "optim.lr"]).mean()).round(2))

# %% [markdown]
# ## The numbers
#
# Means have t intervals, medians exact ones between order statistics (from six seeds on); differences and
# ratios are paired. "The baseline's best" is, for each seed, the highest accuracy of that seed's baseline: the
# paper's way to set a target, and a strict one, since the highest point of a noisy curve is partly luck. A
# run that never reaches it would be counted as "never".

# %%
for regime, frame in regimes.items():
    display(
        Markdown(f"**{regime.replace('_', '-')}**\n\n{report.effects_markdown(tidy.figure1_table(frame))}")
    )

# %% [markdown]
# ## What it means
#
# The verdicts below follow the rules in `bnrepro/analysis/claims/`; "rule first" says whether a rule is older
# than the runs it judges, and `results/rules.csv` has its error rates on simulated data. A row shows the
# claim's main case, and the notes list every case with its interval and the smallest effect of interest.
#
# What the paper leaves open, and what this figure cannot settle:
#
# - The optimizer, rate, init, `eps`, the decay of the moving averages, the number of seeds and the final
#   accuracies are not stated. No number here can be compared with one of the paper's; only the shape of the
#   curves can.
# - A steadier input (C3) is what the paper calls less internal covariate shift. That it is *why* BN helps
#   does not follow from this figure, and [Santurkar et al. 2018](https://arxiv.org/abs/1805.11604) dispute
#   it.
# - A typical unit is one unit: the (lower) median one by the norm of its initial weights, the same in both
#   arms.

# %%
card = claims.scorecard(folder, "C1", "C2", "C3", "C16")
display(Markdown(report.scorecard_markdown(card.assign(notebook=""))))
for claim, note in zip(card["claim"], card["note"], strict=True):
    print(f"{claim}: {note}\n")
print(report.origin(folder, "fig1_mnist"))
