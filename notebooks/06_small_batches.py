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
# # Small batches: where Batch Normalization suffers, and what its alternatives do
#
# Batch Normalization (BN) estimates a mean and a variance from the mini-batch. With few examples the
# estimates are noisy in training, and they differ from the statistics used at inference. [Batch
# Renormalization](https://arxiv.org/abs/1702.03275) corrects the second, [Ghost
# BN](https://arxiv.org/abs/1705.08741) normalizes small groups of a large batch on purpose, and
# [GroupNorm](https://arxiv.org/abs/1803.08494), [LayerNorm](https://arxiv.org/abs/1607.06450) and
# [WeightNorm](https://arxiv.org/abs/1602.07868) use no other example at all.
#
# Here all of them train the same MNIST net with batches of very few to many examples, for equally many
# examples (five epochs). Each method has a rate of its own at each batch size: the best of four, a factor of
# four apart, on 10,000 images held out of the training set; the test set judges. Rates are proportional to the
# batch, so that "0.2 at 60" is 0.0067 at batch 2. Seeds are paired across methods. Nothing is trained here.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import runs, small_batches
from bnrepro.analysis.figures.small_batches import by_batch_size

folder = tidy.results()
frame = tidy.load(folder / "small_batches.parquet")
figures.setting(frame, rates=False)

# %% [markdown]
# ## Test error against batch size
#
# BN is judged twice, on the same nets: with its moving averages, and with the exact statistics of the
# training set (Algorithm 2 of the paper). What lies between the two lines is the cost of the averages; what
# is left with exact statistics comes from training. Up to its group size Ghost BN is BN.

# %%
by_batch_size(frame)

# %% [markdown]
# ## The rates
#
# What each method's best rate at batch 60 is, by batch size. A star marks an end of the grid: beyond it there may
# be a better one. Where a line of the table is constant, "proportional to the batch" was the right rule for it.

# %%
display(small_batches.shown_rates(frame))

# %% [markdown]
# ## Paired differences to BN, and to no normalization
#
# Test accuracy of the row's method minus that of BN (first table) or of the plain net (second), in points,
# per batch size; positive is better. 95% t intervals over seeds; a star: p < 0.05 in a
# paired t-test after Holm's correction over the whole table. A run that diverged counts as chance (10%) and
# widens its interval; which runs did is listed below.

# %%
to_bn, to_baseline = (small_batches.differences(frame, against) for against in ("bn", "baseline"))
display(runs.compact(to_bn, "batch size", "method"))
display(runs.compact(to_baseline, "batch size", "method"))

# %%
for name, table in (("BN", to_bn), ("the plain net", to_baseline)):
    for method, rows in table[table["p_holm"] < 0.05].groupby("method", sort=False):
        for word, side in (("better", rows["value"] > 0), ("worse", rows["value"] < 0)):
            if side.any():
                sizes = ", ".join(map(str, rows.loc[side, "batch size"]))
                print(f"{method}: clearly {word} than {name} at batch size {sizes}")
errors = small_batches.errors_table(frame)
lost = errors[~errors["diverged"].str.startswith("0/")]
print("diverged:", "; ".join(" ".join(map(str, row[:3])) for row in lost.to_numpy()) or "none")

# %% [markdown]
# ## Beside the literature
#
# [Wu & He 2018](https://arxiv.org/abs/1803.08494) report for ResNet-50 on ImageNet (validation error in
# percent, their numbers, not re-run here):
#
# | images per worker | 32 | 16 | 8 | 4 | 2 |
# |---|---|---|---|---|---|
# | BN | 23.6 | 23.7 | 24.8 | 27.3 | 34.7 |
# | GroupNorm | 24.1 | 24.2 | 24.0 | 24.2 | 24.1 |
#
# Only the shape can be compared: an error of BN that rises as the batch shrinks, beside one of GroupNorm
# that stays. In a convolution every image brings many positions to a statistic; in this net a batch of two
# gives two values, and with two values normalization leaves little but their order. Five seeds resolve
# differences of a few tenths of a point; the grid of rates is coarse, and a finer one could move a line by as much.

# %%
display(Markdown(report.effects_markdown(errors)))
print(report.origin(folder, "small_batches"))
