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
# # Does Batch Normalization make dropout unnecessary?
#
# Sections 3.4 and 4.2.1 of [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167): an example's output
# depends on the companions in its mini-batch, which regularizes, and so dropout can be removed from a net
# with Batch Normalization (BN), or shrunk (C12). Articles about BN add that BN and dropout together
# regularize more than either (C18).
#
# On the full MNIST training set a small net hardly overfits, and there is little to regularize. So the same
# nets are trained on subsets, too, one for each seed, until those without dropout fit them (50,000, 10,000 and
# 5,000 steps): the smaller the subset, the larger the gap between training and test accuracy. Seeds are paired:
# the same seed has the same initial weights, subset and batches in every arm. Nothing is trained here.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import claims, figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import regularization
from bnrepro.analysis.figures.regularization import dropout

folder = tidy.results()
frame = tidy.load(folder / "dropout_bn.parquet")
figures.setting(frame)

# %% [markdown]
# ## Accuracy and gap against the dropout rate
#
# Above: what counts. Below: the generalization gap, accuracy on training images minus accuracy on test
# images, both in evaluation mode. A gap shrinks when a net generalizes better *and* when it fits its
# training set less: only where the gap shrinks and the test accuracy does not fall has regularization
# helped.

# %%
dropout(frame)

# %% [markdown]
# ## The numbers
#
# Differences are paired by seed, with 95% t intervals. `p (Holm)` is from a paired t-test, corrected for all
# rows of the table.
#
# "Best dropout rate - none": the rate above 0 (in brackets) with the highest mean accuracy on 10,000 held-out
# images. Taking the best rate of the test images would compare the luckiest of several rates with one.
# "Both", "BN alone", "dropout alone": with dropout, the mean over all rates above 0.

# %%
table = regularization.effects_table(frame)
display(Markdown(report.effects_markdown(table)))
for row in table.query("p_holm < 0.05 and quantity == 'test accuracy'").to_dict("records"):
    change = report.format_interval(row["unit"], row["value"], row["low"], row["high"])
    print(f"{row['nonlinearity']}, clear with {row['training images']} images: {row['comparison']}: {change}")

# %% [markdown]
# ## What it means
#
# C12 asks for more than a difference that is not significant: the interval of what dropout would have added
# must lie below 0.2 points (20 of the 10,000 test images), in every training set. A note gives what dropout
# adds *without* BN: where that is no more, dropout was unnecessary there before BN came.
#
# C18 is about the gap, and its notes say whether test accuracy gained. Both rules were fixed before the
# results were seen.
#
# The literature is not of one mind. [Mishkin et al. 2016](https://arxiv.org/abs/1606.02228) found BN at its
# best together with some dropout on ImageNet. An MLP on MNIST cannot decide that; it shows what holds where
# the mechanism can be seen in isolation.

# %%
card = claims.scorecard(folder, "C12", "C18")
display(Markdown(report.scorecard_markdown(card.assign(notebook=""))))
for claim, note in zip(card["claim"], card["note"], strict=True):
    print(f"{claim}: {note}\n")
print(report.origin(folder, "dropout_bn"))
