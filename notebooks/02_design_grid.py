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
# # The grid of the design: what is BN's effect, what is the learning rate's, what is time's?
#
# Batch Normalization (BN) is rarely switched on alone. A larger mini-batch comes with a larger learning rate,
# dropout is taken out, sigmoids make way for ReLU, and the gain of all of it is called the gain of BN. Here
# every combination is trained: with and without BN x sigmoid and ReLU x dropout 0 and 0.5 x seven batch
# sizes, and all of that under three rules for the rate:
#
# * *constant*: 0.1 for every batch size;
# * *linear*: 0.1 * batch / 60, proportional to the batch size, as
#   [Goyal et al. 2017](https://arxiv.org/abs/1706.02677) advise; at a batch of 60 both are the same run;
# * *its own best*: each cell and each arm has the best of the rates tried, chosen on 10,000 images held out of the
#   training set: 0.1, and 0.1, 0.4, 1.6 and 6.4 times batch / 60.
#
# All runs see the same number of examples, 20 epochs of the 50,000 images that are left, so a large batch means
# few steps. Seeds are paired: the same seed has the same initial weights and the same order of examples in every
# arm. The test set is looked at once, at the end; what is said about earlier times is measured on the held-out
# images. Everything here is read from `results/`; nothing is trained.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import grid as effects
from bnrepro.analysis.effects.runs import compact
from bnrepro.analysis.figures import grid as drawn

folder = tidy.results()
frame = tidy.load(folder / "design_grid.parquet")
under = effects.by_rule(frame)
figures.setting(frame, rates=False)

# %% [markdown]
# ## Accuracy against batch size
#
# The distance between two lines of one colour is the rate's effect, the distance between two lines with one
# marker is BN's.
#
# The table has the best rate of each net (row) at each batch size. A star marks the lowest or highest rate that was
# tried: beyond it there may be a better one.

# %%
display(effects.rates(frame))
drawn.accuracy(under)

# %% [markdown]
# ## BN's effect at each rule
#
# Paired differences, from the same runs. On the left both arms have the same rate, as when BN is added to a net and
# nothing else is changed; on the right each has its own. Mind the two axes.

# %%
drawn.effects(under)

# %% [markdown]
# ## Curves against examples seen
#
# The smallest batch, the paper's and the largest, without dropout. A net that merely needed more steps still
# rises at the end; one that has converged to a worse place is flat.

# %%
drawn.curves(under)

# %% [markdown]
# ## What time does to the effects
#
# BN's effect, and what a doubling of the batch costs, after 1, 5 and 20 epochs: an effect that fades as training
# goes on was one of speed. Means over all cells of the grid, seed by seed, on held-out images.

# %%
time = effects.over_time(under)
display(compact(time.assign(row=time["effect"] + ", rate " + time["rate"]), "row", "examples seen"))

# %% [markdown]
# ## The numbers at the end
#
# Means over all cells of the grid, seed by seed, on the test set. The linear rule has no mean over all batch sizes:
# it lowers the rate below a batch of 60 and raises it above, and so the two sides are told apart. "Best rate" is its
# own best - linear. "BN x" is an interaction: BN's effect with the second level of the other factor, minus its effect
# with the first. "Per doubling" is the slope of accuracy over the logarithm of the batch size. Intervals are 95% t
# intervals over seeds, p is of a paired t-test with Holm's correction over the table; a run whose loss was
# not finite counts as chance.
#
# An average over cells can hide opposite effects in two of them, or be made by one in which nets diverge or hardly
# train: the second table leaves out cells in which a run ends below 50%, a look that is taken afterwards. The tables of
# every cell, each with Holm's correction over the cells, are in `results/tables/design_grid_*.md`; below is how many
# cells stand out.

# %%
display(Markdown(report.effects_markdown(effects.main_effects(under))))
display(Markdown(report.effects_markdown(effects.where_all_learn(under))))
for effect in ("BN", "linear rate", "best rate", "dropout"):
    table = effects.by_cell(under, effect)
    clear = table[table["p_holm"] < 0.05]
    better, worse = (clear["value"] > 0).sum(), (clear["value"] < 0).sum()
    print(f"{effect}: better in {better}, worse in {worse} of {len(table)} cells (p < 0.05 after Holm)")
print(report.origin(folder, "design_grid"))
