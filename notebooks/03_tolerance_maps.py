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
# # How much learning rate and initialization can a net take?
#
# "The baseline diverges at five times its rate, Batch Normalization does not" is what made BN famous
# (section 4.2.1 of [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167), there on ImageNet: C7). Here
# are its MLP version and Inception in the size of a CPU, with a whole map around the first: learning rates over
# four decades x initial standard deviations over two, with and without BN, with sigmoids and with ReLU. Accuracy is
# of a validation split; the test set is not touched.
#
# *Diverged* means that the loss was not finite, or that the run collapsed: its final accuracy is below half
# of the best that this arm reached anywhere on its map, although a lower rate with the same initialization
# does not fail so. What fails at every lower rate too is badly initialized or too slow for the number of
# steps, and is not called diverged. *Trainable* means a final accuracy of at least 90%; what other
# thresholds would say is shown. Everything here is read from `results/`; nothing is trained.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import claims, figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import imagenet
from bnrepro.analysis.effects import tolerance as effects
from bnrepro.analysis.figures import imagenet as on_inception
from bnrepro.analysis.figures import tolerance as drawn

folder = tidy.results()
frame = tidy.load(folder / "tolerance_maps.parquet")
figures.setting(frame, rates=False)

# %% [markdown]
# ## The maps

# %%
drawn.maps(frame)

# %% [markdown]
# ## The size of the trainable region
#
# The share of the cells that train, for every reading of "train". A lead of one line at low thresholds is
# tolerance; a lead at the right-hand end is accuracy, which is another claim. The grid is even in the
# logarithm of both axes, so that a share is an area on a logarithmic map; it depends on where the map ends.

# %%
drawn.area(frame)

# %%
display(Markdown(report.effects_markdown(effects.areas(frame))))

# %% [markdown]
# ## The boundary of divergence
#
# The lowest rate of the grid at which a run diverges, median over seeds; "never" means at none of the rates.
# The resolution is the grid's, about a factor of three.

# %%
display(Markdown(report.effects_markdown(effects.edges(frame))))

# %% [markdown]
# ## Five times the rate
#
# The reference is the baseline's best rate on held-out images at an initial standard deviation of 0.1, found on a
# grid of factor 1.5 with other seeds: 1.9 with sigmoids, 0.57 with ReLU. With ReLU the rates from 0.17 to 0.57
# cannot be told apart by their intervals: a tie is no best rate, so 0.17 is multiplied, too. (Paired by seed 0.11 ties
# as well; five times it is about 0.57, where no net fails.) Both arms are trained at exactly these multiples, 20
# seeds each.
#
# 5 is not a number of the method: without BN the margin between the rate that works and the rate that breaks
# depends on where in a broad optimum one stands. With BN no net fails at 5 times any of these rates; with ReLU all
# do at 10 times the highest. On Inception no net fails at 5 times the rate, with BN or without, though it costs those
# without BN three times as much; at 10 times five of six fail without BN, and none with it.

# %%
multiples = tidy.load(folder / "rate_multiples.parquet")
display(drawn.multiples(multiples))
display(Markdown(report.effects_markdown(effects.failures(multiples).query("multiple == '5'"))))
inception = tidy.load(folder / "c7_inception.parquet")
display(on_inception.multiples(inception))
display(Markdown(report.effects_markdown(imagenet.failures(inception))))

# %%
card = claims.scorecard(folder, "C7")
display(Markdown(report.scorecard_markdown(card.assign(notebook=""))))
print(card["note"].item(), "\n")
print(report.origin(folder, "tolerance_maps", "rate_multiples", "c7_inception"))
