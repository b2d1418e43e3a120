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
# # A lab: train with and without Batch Normalization
#
# For students, about an hour. You train small nets yourself, on 4,000 handwritten digits that come with the
# project; each training takes a few seconds on a laptop. The text for class is [step by
# step](../docs/step_by_step.md). From a checkout, with 6 GB of disk:
#
#     make figure1                                       # makes .venv, and trains a first pair of nets
#     .venv/bin/uv pip install -e '.[notebook]'
#     .venv/bin/bnrepro lab                               # opens the notebooks; this is 14_lab
#
# **Clear all outputs first** (in the menu *Edit*): what the cells print here gives the answers away. Then, in every
# task: **predict, write your prediction down, run the cell.** Answers are folded below the
# tasks. Your numbers are those shown here, since seeds fix weights and mini-batches, or nearly so on another kind
# of processor. Where an answer has a number that no cell prints, it says how it was found.
#
# | task | minutes |
# |---|---|
# | 1 Predict and look | 10 |
# | 2 Write the transform | 15 |
# | 3 The learning rate | 10 |
# | 4 The initial weights | 10 |
# | 5 The mini-batch | 10 |
# | 6 A question of your own | 10 |
#
# ## 1. Predict and look
#
# Three layers of 100 sigmoids, weights from N(0, 0.1²), rate 0.1, mini-batches of 60: the setting of the paper's
# Figure 1. Sketch on paper, for the first 1,000 steps, the test accuracy without BN and with BN. Where do both
# start? Then run the cell. (`help(train)` lists what can be set.)

# %%
# %matplotlib inline
import numpy as np
import torch
from IPython.display import display

from bnrepro.lab import compare, plot, train
from bnrepro.norm import BatchNorm

plot({variant: train(variant) for variant in ("baseline", "bn")})

# %% [markdown]
# <details><summary>What you see</summary>
#
# Both start at 10%: chance, with ten digits. The net with BN learns at once. The net without it stands still for
# some 400 steps. What differs between images is lost on the way up: over the images, the outputs of a unit of the
# first layer spread by 0.16, of the second by 0.04, of the third by 0.01 (standard deviations before training, not
# printed here). To the last layer all images look alike, and little of the gradient gets back down. BN stretches the
# inputs of every layer back to a spread of 1.
# </details>
#
# ## 2. Write the transform
#
# `x` has a row per example and a column per feature. Replace the first two lines of the cell, so that `y` is what
# BN makes of `x` in training, with gamma = 1 and beta = 0. The check compares with the layer that the nets here
# are made of.

# %%
x, eps = np.random.default_rng(0).normal(3, 5, (60, 4)), 1e-5
mu = 0  # your line here
var = 1  # your line here
y = (x - mu) / np.sqrt(var + eps)

theirs = BatchNorm(4).double()(torch.tensor(x)).detach().numpy()
error = np.abs(y - theirs).max()
print("right" if error < 1e-12 else f"not yet: off by up to {error:.2g}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# mu = x.mean(axis=0)
# var = ((x - mu) ** 2).mean(axis=0)
# ```
#
# The usual mistakes: statistics over the features of an example instead of over the examples (`axis=1`: that is
# *layer* normalization); `eps` outside the root; a variance divided by m - 1, which the layer uses at inference
# only.
# </details>
#
# ## 3. The learning rate
#
# The paper: "Batch Normalization enables higher learning rates". Predict for each rate which nets train. Then
# ask: is "BN is 30 points better" (task 1) a fact about BN?

# %%
display(compare(lr=[0.1, 0.5, 2, 8, 32]))

# %% [markdown]
# <details><summary>Answer</summary>
#
# At 0.1 BN is far ahead, at 2 the net without BN is as good or better, at 8 only some of its seeds train, at 32
# none does, while nets with BN mostly do. (At 32 rounding decides about single seeds: the lowest of three ended at
# 27% on one kind of processor, at 78% on another.) So BN makes the net *tolerant*: a rate may be wrong by a factor
# of several tens. "How much better" depends on who chose the rate. The study compares twice therefore: at one
# rate, and each arm at its own best.
#
# Why does BN bear large rates? Multiply the weights below a BN layer by 10: its output stays, and the gradient of
# these weights becomes a tenth. Weights that a large step has made large take smaller steps from then on.
# </details>
#
# ## 4. The initial weights
#
# What happens without BN if the weights start very small, or large? And with BN?

# %%
display(compare(init_std=[0.01, 0.1, 1]))

# %% [markdown]
# <details><summary>Answer</summary>
#
# With weights of 0.01 the signal of the image is lost on its way up, and the gradient on its way down: chance. With
# BN the size of the weights below does not matter to the layer's output, so 0.01 trains as 0.1 does. At 1 many
# sigmoids without BN are saturated, but the images still differ at the top: the net starts sooner than at 0.1 (its
# curve: `plot({"baseline": train("baseline", init_std=1)})`). With BN 1 is the worst of the three: weights of that
# size are moved little, relative to their size, by a rate of 0.1.
# </details>
#
# ## 5. The mini-batch
#
# BN uses the mean and variance of the mini-batch at hand. What will 4 examples do to it? All nets here take 1,000
# steps: is this comparison fair to small batches? Make one that is: `train("bn", batch_size=4, steps=15_000)` trains
# one arm, and its last line holds the final accuracy of each seed.

# %%
display(compare(batch_size=[4, 16, 60]))

# %% [markdown]
# <details><summary>Answer</summary>
#
# BN ends ten points lower with 4 examples. The noise of their statistics? Hardly: 1,000 steps of 4 are 4,000
# examples, 1,000 steps of 60 are 60,000. At equal examples, as in
#
# ```python
# for batch_size in (4, 16, 60):
#     steps = 60_000 // batch_size
#     for variant in ("baseline", "bn"):
#         print(batch_size, variant, train(variant, batch_size=batch_size, steps=steps).iloc[-1].mean())
# ```
#
# the small batches take more steps, and the net without BN gains most: these lines print 93% at 4, 89% at 16 and 60%
# at 60 for it, and 90, 90 and 91% with BN. With sigmoids at this rate, what it lacks is steps. The study's [small
# batches](06_small_batches.ipynb) and [grid](02_design_grid.ipynb) tell such effects apart.
# </details>
#
# ## 6. A question of your own
#
# Some that fit into ten minutes: does BN help ReLU nets (`activation="relu"`)? Does dropout help beside BN? Does
# the lead of task 1 last when training goes on for 10,000 steps? Say before what you expect, and what would
# change your mind.
#
# <details><summary>Notes for teachers</summary>
#
# With ReLU the two curves end together (the last cell): vanishing gradients were the sigmoid's. After 10,000 steps
# (`train("bn", steps=10_000)`, not run here) the net without BN is ahead of BN on these few digits (with few images
# BN alone makes a worse net: [dropout and BN](05_dropout_and_bn.ipynb)), on the full data it is not ([Figure
# 1](01_figure1.ipynb)). Three seeds show a large effect and no small one: ask for the range before the conclusion.
# Every training took 2 to 4 seconds on two cores.
# </details>

# %%
plot({variant: train(variant, activation="relu") for variant in ("baseline", "bn")})
