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
# # Inference: which statistics, and what the wrong ones cost
#
# In training Batch Normalization (BN) uses the mini-batch's mean and variance. At inference Algorithm 2 of
# [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167) takes the averages over many training batches,
# with the unbiased variance; "moving averages may track accuracy during training". Libraries use moving
# averages throughout. And whoever forgets to switch to evaluation mode uses the statistics of the test
# batch.
#
# All three are measured on the same nets at every evaluation, for several batch sizes and weights of the
# new batch in the moving average (`momentum`). The momentum does not touch training: only the blue line
# knows it. Nothing is trained here.

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from bnrepro.analysis import figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import inference, runs
from bnrepro.analysis.figures.inference import over_training

folder = tidy.results()
frame = tidy.load(folder / "inference_stats.parquet")
figures.setting(frame)

# %% [markdown]
# ## Error over training
#
# A moving average can be wrong in two ways: it remembers weights that are gone (small momentum, early
# steps), and it averages over few batches (large momentum, small batches). The corner of a panel says from
# which step on it is at most half a point worse than Algorithm 2.

# %%
over_training(frame)

# %% [markdown]
# ## The cost of doing it wrong
#
# Test accuracy with Algorithm 2 minus that with the other statistics, in points: positive is what is lost.
# At the last step, and averaged over training. Paired by seed, 95% t intervals; a star:
# p < 0.05 in a paired t-test after Holm's correction over the whole table. Statistics of the test batch (of
# the training size) depend on the companions of an example, but not on the momentum: "any".

# %%
cost = inference.cost_table(frame)
for (other, when), rows in cost.groupby(["population minus", "when"], sort=False):
    display(Markdown(f"**Algorithm 2 minus {other}, {when}**"))
    display(runs.compact(rows, "momentum", "batch size"))

# %% [markdown]
# ## How long until the moving averages have caught up
#
# Median over seeds of the first evaluated step from which on the moving averages are at most half a
# point worse than Algorithm 2 to the end of the run. Seeds that are not there at the end are counted as
# never, not dropped.

# %%
display(runs.compact(inference.catch_up_table(frame), "momentum", "batch size"))

# %%
last = cost[(cost["when"] == "last step") & (cost["p_holm"] < 0.05)]
for row in last.to_dict("records"):
    change = report.format_interval(row["unit"], -row["value"], -row["high"], -row["low"])
    where = f"momentum {row['momentum']}, batch size {row['batch size']}"
    print(f"clear at the last step: {row['population minus']} instead of Algorithm 2, {where}: {change}")
print(report.origin(folder, "inference_stats"))

# %% [markdown]
# ## What it means
#
# - The list above holds the combinations in which the choice of statistics clearly matters once training is
#   over; for those that are missing, the interval in the table says how large an effect could have been
#   overlooked.
# - Curves drawn with moving averages, as the paper's own Figure 1 may have been, show early in training the
#   age of the averages as much as the net. That is why final accuracies are reported with Algorithm 2, too.
# - Test-batch statistics make an answer depend on the other examples of its batch. Test batches here are
#   mixed from all classes and writers; a batch of one class would be worse off.
