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
# # The noise of mini-batch statistics, and whether it regularizes
#
# In training, Batch Normalization (BN) makes an example's output depend on the other examples of its
# mini-batch. Section 3.4 of [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167) calls that a
# regularizer. If so, a larger mini-batch should mean less noise in its mean and variance, and therefore less
# regularization (C17). The first half is elementary statistics and can be checked to a few percent. The
# second is a claim about training, and batch size changes more than noise: it also changes the number of
# steps at equal examples seen, and the noise of the gradient.
#
# Hence two controls. The *baseline* has no BN but the same batch sizes: what its generalization gap does is not BN's
# doing. *BN with its noise frozen* normalizes by the moving averages in training too, with BN's gradients (Batch
# Renormalization without limits): normalization without the noise. *Ghost BN* takes its statistics over 16 examples of
# a mini-batch of 128: the noise without the small mini-batch. The training set is small, 5,000 images of which each
# seed has its own, and all nets train for 300,000 examples, in which almost all fit it. The rate is proportional to the
# batch size, which keeps the noise of the gradient about the same. Everything here is read from `results/`; nothing is
# trained.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import claims, figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import noise as effects
from bnrepro.analysis.figures import noise as drawn

folder = tidy.results()
frame = tidy.load(folder / "batch_noise.parquet")
figures.setting(frame, rates=False)

# %% [markdown]
# ## Noise beside theory, and the gap
#
# For independent draws the variance of the mean of M values is sigma^2 / M, and that of their biased sample
# variance is sigma^4 (M-1)^2 / M^3 (kurtosis - (M-3) / (M-1)). There is no such formula for the logits: they
# go through three normalized layers. The dotted line there is only proportional to 1/M. The thin lines follow it; the
# thick one is flatter, since it changes the net as well as M: at one M nets trained with mini-batches of 4 to 16 vary
# less.

# %%
drawn.batch_noise(frame)

# %% [markdown]
# ## Noise in numbers
#
# A ratio of 1 is agreement with the theory. Each seed's value is a mean over its nets, one per batch size. The slopes
# are within a net (the thin lines).

# %%
display(Markdown(report.effects_markdown(effects.noise_table(frame))))

# %% [markdown]
# ## The gap in numbers
#
# Accuracy on training images minus accuracy on test images, and test loss minus training loss, both in
# evaluation mode. At equal training loss: where a net's training loss first falls to the lowest value that every
# net reaches. At equal examples: at the last step. "Per doubling" is the slope over the logarithm of the batch
# size, without the batch sizes at which a run diverged. The difference of two slopes, paired by seed, is what the
# verdict looks at: with BN - without BN, and with BN - BN with its noise frozen.
#
# With mini-batches of 4 BN has not fitted its images at the end, and its loss would be the one at which all are
# compared: a batch size at which the nets of some arm end below 99% of their training images (mean over seeds) is left
# out, for all. The last table has these mini-batches, too: there all are compared at a loss of 0.11 in place of 0.02.

# %%
fitted, _ = effects.fitted(frame)
gaps = effects.gap_table(fitted)
display(Markdown(report.effects_markdown(gaps[gaps["batch size"] == "per doubling"])))
display(Markdown(report.effects_markdown(gaps[gaps["arm"] == "with BN - BN, noise frozen"])))
display(Markdown("With all batch sizes:"))
every = effects.gap_table(frame)
display(Markdown(report.effects_markdown(every[every["batch size"] == "per doubling"])))

# %% [markdown]
# ## The verdict
#
# What the rule cannot settle: the frozen control normalizes by statistics that lag behind the weights, which is
# a difference beside the noise.

# %%
card = claims.scorecard(folder, "C17")
display(Markdown(report.scorecard_markdown(card.assign(notebook=""))))
print(card["note"].item(), "\n")
print(report.origin(folder, "batch_noise"))
