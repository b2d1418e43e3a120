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
# # The grid of the design: what is BN's effect, and what is the learning rate's?
#
# Batch Normalization (BN) is rarely switched on alone. A larger mini-batch comes with a larger learning rate,
# dropout is taken out, sigmoids make way for ReLU, and the gain of all of it is called the gain of BN. Here
# every combination is trained: with and without BN x sigmoid and ReLU x dropout 0 and 0.5 x seven batch
# sizes, and all of that under two rules for the rate. *Constant* is one rate for every batch size. *Linear*
# is a rate proportional to the batch size, as
# [Goyal et al. 2017](https://arxiv.org/abs/1706.02677) advise; at a batch of 60 both are the same run.
#
# All runs see the same number of examples, so a large batch means few steps. Seeds are paired: the same seed
# has the same initial weights and the same order of examples in every arm. One rate for all batch sizes is
# not tuned for any arm: the question is which effect is whose, not which net is best. Everything here is read
# from `results/`; nothing is trained.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import grid as effects
from bnrepro.analysis.figures import grid as drawn

folder = tidy.results()
frame = tidy.load(folder / "design_grid.parquet")
figures.setting(frame, rates=False)

# %% [markdown]
# ## Accuracy against batch size
#
# The distance between two lines of one colour is the rate's effect, the distance between two lines with one
# marker is BN's.

# %%
drawn.accuracy(frame)

# %% [markdown]
# ## The two effects side by side
#
# Paired differences, from the same runs. Where the right column is farther from zero than the left one, the
# rate matters more than BN. If the two lines on the left coincided, BN's effect would not depend on the rate.

# %%
drawn.effects(frame)

# %% [markdown]
# ## Curves against examples seen
#
# The smallest batch, the paper's and the largest, without dropout. A net that merely needed more steps still
# rises at the end; one that has converged to a worse place is flat.

# %%
drawn.curves(frame)

# %% [markdown]
# ## The numbers
#
# Means over all cells of the grid, seed by seed. The rate rule has no mean over all batch sizes: it lowers
# the rate below a batch of 60 and raises it above, and so the two sides are told apart. "BN x" is an
# interaction: BN's effect with the second level of the other factor, minus its effect with the first. "Per
# doubling" is the slope of accuracy over the logarithm of the batch size. Intervals are 95% t
# intervals over seeds, p is of a paired t-test with Holm's correction over the table; a run whose loss was
# not finite counts as chance.
#
# An average over cells can hide opposite effects in two of them. The tables of every cell, each with Holm's
# correction over the cells, are in `results/tables/design_grid_*.md`; below is how many cells stand out.

# %%
display(Markdown(report.effects_markdown(effects.main_effects(frame))))
for effect in ("BN", "linear rate", "dropout"):
    table = effects.by_cell(frame, effect)
    clear = table[table["p_holm"] < 0.05]
    better, worse = (clear["value"] > 0).sum(), (clear["value"] < 0).sum()
    print(f"{effect}: better in {better}, worse in {worse} of {len(table)} cells (p < 0.05 after Holm)")
print(report.origin(folder, "design_grid"))
