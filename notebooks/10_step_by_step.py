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
# # Batch Normalization, step by step
#
# Batch Normalization (BN, [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167)) on small arrays, one
# line at a time: what it computes, how to undo it, how gradients pass through it, and why its output is
# random during training. Nothing is trained and no result is read. The arithmetic is numpy;
# [`bnrepro.norm`](../src/bnrepro/norm.py), the PyTorch layer of this project, is what it is compared with.
#
# ## 1. Standardising
#
# Two features, one between 0 and 60, one between -200 and 0. Subtract from each feature $k$ its mean over
# the data and divide by its standard deviation,
#
# $$\hat x^{(k)} = \frac{x^{(k)} - \mathrm{E}[x^{(k)}]}{\sqrt{\mathrm{Var}[x^{(k)}]}},$$
#
# and both have mean 0, standard deviation 1, and most values between -2 and 2. For the *inputs* of a net
# this is old advice (section 2 of the paper recalls it). It does not remove the correlation of the
# features: that would be whitening, which section 3 avoids because it is costly and not everywhere
# differentiable.

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import display

from bnrepro.analysis.figures import step_by_step as draw

try:  # what the layer itself says; everything else on this page is numpy
    import torch

    from bnrepro.norm import BatchNorm
except ModuleNotFoundError:
    print("torch is not installed: the comparisons with the layer are left out")
    torch = None

rng = np.random.default_rng(0)
shared, own_1, own_2 = rng.random((3, 1000))  # the shared part makes the features correlated
x = np.column_stack([60 * (0.6 * shared + 0.4 * own_1), -200 * (1 - 0.6 * shared - 0.4 * own_2)])
centred = x - x.mean(axis=0)
standard = centred / x.std(axis=0)

features, stages = ["feature 1", "feature 2"], {"data": x, "minus mean": centred, "divided by std": standard}
summary = {name: [v.min(axis=0), v.max(axis=0), v.mean(axis=0), v.std(axis=0)] for name, v in stages.items()}
tables = {name: pd.DataFrame(v, ["min", "max", "mean", "std"], features) for name, v in summary.items()}
display(pd.concat(tables, axis=1).round(2) + 0.0)
print(f"correlation: {np.corrcoef(x.T)[0, 1]:.3f} before, {np.corrcoef(standard.T)[0, 1]:.3f} after")
draw.clouds(stages)

# %% [markdown]
# ## 2. The transform (Algorithm 1)
#
# Inside a net the distribution of a layer's inputs moves while the net trains, so it cannot be standardised
# once and for all. BN does it at every step and for each feature on its own, with the statistics of the
# mini-batch $\mathcal{B}$ of values $x_1, \dots, x_m$ at hand:
#
# $$\mu_\mathcal{B} = \frac1m \sum_{i=1}^m x_i, \qquad
# \sigma_\mathcal{B}^2 = \frac1m \sum_{i=1}^m (x_i - \mu_\mathcal{B})^2, \qquad
# \hat x_i = \frac{x_i - \mu_\mathcal{B}}{\sqrt{\sigma_\mathcal{B}^2 + \epsilon}}, \qquad
# y_i = \gamma \hat x_i + \beta.$$
#
# The variance is the biased one ($1/m$); the small $\epsilon$ inside the root keeps a feature that is
# constant in the mini-batch from a division by zero. $\gamma$ and $\beta$ are learned, one pair for each
# feature. For inference (Algorithm 2) the batch statistics give way to averages over many mini-batches, the
# variance with the factor $m/(m-1)$ that makes it unbiased: BN is then one fixed affine map.

# %%
m, eps = 6, 1e-5
gamma, beta = np.array([1.5, 0.5]), np.array([-1.0, 2.0])
batch = x[:m]

mu_B = batch.sum(axis=0) / m
var_B = ((batch - mu_B) ** 2).sum(axis=0) / m
x_hat = (batch - mu_B) / np.sqrt(var_B + eps)
y = gamma * x_hat + beta

lines = {"x": batch, "x - mu_B": batch - mu_B, "x_hat": x_hat, "y": y}
rows = [*range(1, m + 1), "mean", "std"]
tables = {
    name: pd.DataFrame([*v, v.mean(axis=0), v.std(axis=0)], rows, features) for name, v in lines.items()
}
display(pd.concat(tables, axis=1).round(3) + 0.0)

if torch:
    layer = BatchNorm(2, eps=eps, momentum=None).double()  # momentum=None: plain averages, as in Algorithm 2
    layer.load_state_dict({"weight": torch.tensor(gamma), "bias": torch.tensor(beta)}, strict=False)
    theirs = layer(torch.tensor(batch)).detach().numpy()
    print(f"largest difference to bnrepro.norm.BatchNorm: {np.abs(theirs - y).max():.1e}")
    print(f"variance for inference / var_B: {layer.running_var.numpy() / var_B}; m / (m - 1): {m / (m - 1)}")

# %% [markdown]
# ## 3. What gamma and beta are for
#
# "Normalizing the inputs of a sigmoid would constrain them to the linear regime of the nonlinearity"
# (section 3). With mean 0 and standard deviation 1 most inputs of $s(y) = 1/(1 + e^{-y})$ fall where the
# curve is close to its tangent $\frac12 + \frac y4$: the layer is nearly linear, and linear layers on top
# of each other are no more than one. With $\gamma$ the layer can spread its inputs into both bends of the
# curve, with $\beta$ it can shift them into one. How straight the used part is can be measured: the share of
# the output's variance that the best straight line explains ($r^2$ between $y$ and $s(y)$).

# %%
u = standard @ np.array([0.8, 0.6])  # the input of one unit, for all examples
u_hat = (u - u.mean()) / np.sqrt(u.var() + eps)
draw.on_the_sigmoid(u_hat, [(1, 0), (3, 0), (1.5, 2.5)])

# %% [markdown]
# ## 4. Nothing is lost: back to x_hat, and back to x
#
# The last line of Algorithm 1 is undone by $\hat x_i = (y_i - \beta)/\gamma$, as long as $\gamma \neq 0$.
# The whole transform is undone *by the layer itself* if it learns
#
# $$\gamma = \sigma = \sqrt{\sigma_\mathcal{B}^2 + \epsilon}, \quad \beta = \mu_\mathcal{B}
# \qquad\Rightarrow\qquad y_i = \sigma\,\frac{x_i - \mu_\mathcal{B}}{\sigma} + \mu_\mathcal{B} = x_i.$$
#
# So a net with BN can represent what the net without it could, "if that were the optimal thing to do"
# (section 3). Two fine points, both in the table. The paper writes $\gamma = \sqrt{\mathrm{Var}[x]}$, which
# shrinks the deviations from the mean by the tiny share $\epsilon / 2\sigma_\mathcal{B}^2$. And $\gamma$,
# $\beta$ are constants: they give back *this* mini-batch; another one comes out with the mean and the
# standard deviation of this one.

# %%
sigma_B = np.sqrt(var_B + eps)
other = x[m : 2 * m]
other_hat = (other - other.mean(axis=0)) / np.sqrt(other.var(axis=0) + eps)
errors = {
    "x_hat = (y - beta) / gamma": (y - beta) / gamma - x_hat,
    "y = x: gamma = sqrt(var_B + eps), beta = mu_B": sigma_B * x_hat + mu_B - batch,
    "y = x: gamma = sqrt(var_B), beta = mu_B": np.sqrt(var_B) * x_hat + mu_B - batch,
    "the same gamma and beta, another mini-batch": sigma_B * other_hat + mu_B - other,
}
largest = pd.DataFrame({name: np.abs(error).max(axis=0) for name, error in errors.items()}, features).T
display(largest.map("{:.1e}".format).rename_axis("largest error"))

# %% [markdown]
# ## 5. The six gradients
#
# A change of $x_i$ moves $\hat x_i$ directly, and every $\hat x_j$ through $\mu_\mathcal{B}$ and
# $\sigma_\mathcal{B}^2$. The chain rule for a loss $\ell$, in the order of section 3:
#
# $$\begin{aligned}
# (1)\quad & \frac{\partial \ell}{\partial \hat x_i} = \frac{\partial \ell}{\partial y_i}\,\gamma \\
# (2)\quad & \frac{\partial \ell}{\partial \sigma_\mathcal{B}^2} =
# \sum_i \frac{\partial \ell}{\partial \hat x_i}\, (x_i - \mu_\mathcal{B}) \cdot
# \left(-\tfrac12\right) (\sigma_\mathcal{B}^2 + \epsilon)^{-3/2} \\
# (3)\quad & \frac{\partial \ell}{\partial \mu_\mathcal{B}} = \sum_i \frac{\partial \ell}{\partial \hat x_i}\,
# \frac{-1}{\sqrt{\sigma_\mathcal{B}^2 + \epsilon}}
# + \frac{\partial \ell}{\partial \sigma_\mathcal{B}^2}\,\frac{\sum_i -2 (x_i - \mu_\mathcal{B})}{m} \\
# (4)\quad & \frac{\partial \ell}{\partial x_i} = \frac{\partial \ell}{\partial \hat x_i}\,
# \frac{1}{\sqrt{\sigma_\mathcal{B}^2 + \epsilon}}
# + \frac{\partial \ell}{\partial \sigma_\mathcal{B}^2}\,\frac{2 (x_i - \mu_\mathcal{B})}{m}
# + \frac{\partial \ell}{\partial \mu_\mathcal{B}}\,\frac1m \\
# (5)\quad & \frac{\partial \ell}{\partial \gamma} = \sum_i \frac{\partial \ell}{\partial y_i}\,\hat x_i
# \qquad\qquad (6)\quad \frac{\partial \ell}{\partial \beta} = \sum_i \frac{\partial \ell}{\partial y_i}
# \end{aligned}$$
#
# The check: add $+h$ and $-h$ to one node of the computation at a time, run the rest of it, and compare
# $(\ell_+ - \ell_-)/2h$ with the formula. Here $\ell = \frac12 \sum_i (y_i - t_i)^2$, so
# $\partial \ell/\partial y_i = y_i - t_i$.
#
# Two properties of (4) are worth knowing. Shifting all $x_i$ together does not change $y$, so
# $\sum_i \partial \ell/\partial x_i = 0$. Nor does stretching them about their mean, but for the $\epsilon$:
# $\sum_i \hat x_i\, \partial \ell/\partial x_i =
# \epsilon\,\gamma\,(\partial \ell/\partial \gamma) / (\sigma_\mathcal{B}^2 + \epsilon)^{3/2}$, nearly zero.
# The last sum in (3) is always zero: deviations from the mean cancel.

# %%
m, g, b, h = 8, np.float64(1.7), np.float64(-0.4), 1e-5
v, t = rng.normal(3, 2, m), rng.normal(size=m)  # one feature of a mini-batch, and targets
mu, var = v.mean(), v.var()
v_hat = (v - mu) / np.sqrt(var + eps)
dy = g * v_hat + b - t

dx_hat = dy * g  # (1)
dvar = (dx_hat * (v - mu) * -0.5 * (var + eps) ** -1.5).sum()  # (2)
dmu = (dx_hat * -1 / np.sqrt(var + eps)).sum() + dvar * (-2 * (v - mu)).sum() / m  # (3)
dx = dx_hat / np.sqrt(var + eps) + dvar * 2 * (v - mu) / m + dmu / m  # (4)
dgamma = (dy * v_hat).sum()  # (5)
dbeta = dy.sum()  # (6)

# Row j of `nudge` adds h to node j alone, row n + j subtracts it; all rows run through the transform at once.
n, starts = 2 * m + 4, [m, m + 1, m + 2, 2 * m + 2, 2 * m + 3]
nudge = h * np.vstack([np.eye(n), -np.eye(n)])
to_x_hat, to_var, to_mu, to_x, to_gamma, to_beta = np.split(nudge, starts, axis=1)
vs = v + to_x
mus = vs.mean(axis=1, keepdims=True) + to_mu
variances = ((vs - mus) ** 2).mean(axis=1, keepdims=True) + to_var
v_hats = (vs - mus) / np.sqrt(variances + eps) + to_x_hat
losses = 0.5 * (((g + to_gamma) * v_hats + b + to_beta - t) ** 2).sum(axis=1)
numeric = np.split((losses[:n] - losses[n:]) / (2 * h), starts)

autograd = [None] * 6
if torch:
    layer, inputs = BatchNorm(1, eps=eps).double(), torch.tensor(v[:, None], requires_grad=True)
    layer.load_state_dict({"weight": torch.tensor(g[None]), "bias": torch.tensor(b[None])}, strict=False)
    (0.5 * (layer(inputs) - torch.tensor(t[:, None])).square().sum()).backward()
    autograd[3:] = (p.grad.numpy().ravel() for p in (inputs, layer.weight, layer.bias))

formulas = {"x_hat": dx_hat, "var_B": dvar, "mu_B": dmu, "x": dx, "gamma": dgamma, "beta": dbeta}
checks = [
    {
        "largest value": f"{np.abs(formula).max():.4f}",
        "largest error, finite differences": f"{np.abs(formula - difference).max():.1e}",
        "largest error, BatchNorm": "" if layers is None else f"{np.abs(formula - layers).max():.1e}",
    }
    for formula, difference, layers in zip(formulas.values(), numeric, autograd, strict=True)
]
display(pd.DataFrame(checks, [f"({i}) dl/d{name}" for i, name in enumerate(formulas, 1)]))
print(f"sum of dl/dx: {dx.sum():.1e}; sum of x_hat dl/dx: {(v_hat * dx).sum():.4e}", end="")
print(f" = eps gamma dl/dgamma / sigma^3: {eps * g * dgamma * (var + eps) ** -1.5:.4e}")

# %% [markdown]
# ## 6. The noise of a mini-batch
#
# Let $\mu$, $\sigma$ be the mean and the standard deviation over *all* examples, and $z = (x - \mu)/\sigma$
# one fixed example, standardised by them. Normalized in a mini-batch it becomes (write $\sigma_\mathcal{B}$
# for $\sqrt{\sigma_\mathcal{B}^2 + \epsilon}$)
#
# $$\hat x = \frac{x - \mu_\mathcal{B}}{\sigma_\mathcal{B}}
# = \underbrace{\frac{\sigma}{\sigma_\mathcal{B}}}_{\text{multiplicative}} z
# + \underbrace{\frac{\mu - \mu_\mathcal{B}}{\sigma_\mathcal{B}}}_{\text{additive}} .$$
#
# Both parts depend on who else is in the mini-batch: the net is "no longer producing deterministic values
# for a given training example" (section 3.4), which the paper finds to help generalization.
#
# How large is the noise? The mean of $m$ independent draws has the standard deviation $\sigma/\sqrt m$,
# hence the additive part about $1/\sqrt m$. For Gaussian inputs $\sigma_\mathcal{B}$ has a relative
# standard deviation of about $1/\sqrt{2m}$, and the two are nearly independent, which gives the output
# about $\sqrt{(1 + z^2/2)/m}$. Four times the batch, half the noise. These are the first terms for large
# $m$: at $m = 8$ the division by a random $\sigma_\mathcal{B}$ skews the distributions, and the example,
# which is itself part of its mini-batch, shifts their centres by something of the order of $1/m$. At
# inference (Algorithm 2) the noise is gone.

# %%
mu, sigma, z = 30.0, 12.0, 1.0
multiplicative, additive, output = {}, {}, {}
for m in (8, 32, 128):
    batches = rng.normal(mu, sigma, (20_000, m))
    batches[:, 0] = mu + sigma * z  # the fixed example; its companions change
    mu_B, sigma_B = batches.mean(axis=1), np.sqrt(batches.var(axis=1) + eps)
    multiplicative[m] = sigma / sigma_B
    additive[m] = (mu - mu_B) / sigma_B
    output[m] = (batches[:, 0] - mu_B) / sigma_B

sizes = np.array([*output])
table = {
    ("multiplicative", "std"): [draws.std() for draws in multiplicative.values()],
    ("multiplicative", "1/√(2m)"): 1 / np.sqrt(2 * sizes),
    ("additive", "std"): [draws.std() for draws in additive.values()],
    ("additive", "1/√m"): 1 / np.sqrt(sizes),
    ("output", "std"): [draws.std() for draws in output.values()],
    ("output", "√((1 + z²/2)/m)"): np.sqrt((1 + z**2 / 2) / sizes),
}
display(pd.DataFrame(table, pd.Index(sizes, name="m")).round(3))
titles = [
    r"multiplicative: $\sigma\,/\,\sigma_B$",
    r"additive: $(\mu - \mu_B)\,/\,\sigma_B$",
    r"output: $\hat{x}$ of the fixed example",
]
theory = {
    r"$1/\sqrt{2m}$": np.sqrt(1 / 2),
    r"$1/\sqrt{m}$": 1,
    r"$\sqrt{(1 + z^2/2)/m}$": np.sqrt(1 + z**2 / 2),
}
panels = dict(zip(titles, (multiplicative, additive, output), strict=True))
draw.batch_noise(panels, exact=[1, 0, z], theory=theory)
