"""Claims that are identities (C4, C5, C6), measured in float64 on random layers: results/exact.csv."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from bnrepro.files import write
from bnrepro.norm import BatchNorm, moments

TOLERANCE = 1e-9
TRIALS = 100


def error(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


def scale_invariance(draw: torch.Generator) -> dict[str, float]:
    """Section 3.3 for a layer of 20 units on 60 examples of 50 inputs, a from 0.1 to 10; eps = 0 as there."""
    u, weight, direction = (
        torch.randn(*s, dtype=torch.float64, generator=draw) for s in ((60, 50), (20, 50), (60, 20))
    )
    a = 10 ** (2 * torch.rand((), dtype=torch.float64, generator=draw) - 1)
    found = []
    for factor in (torch.ones_like(a), a):
        u_, w_ = u.clone().requires_grad_(), (factor * weight).requires_grad_()
        y = BatchNorm(20, eps=0.0).double()(u_ @ w_.T)
        found.append((y.detach(), *torch.autograd.grad((y * direction).sum(), (u_, w_))))
    (y, du, dw), (y_a, du_a, dw_a) = found
    return {
        "BN((aW)u) = BN(Wu)": error(y_a, y),
        "dBN((aW)u)/du = dBN(Wu)/du": error(du_a, du),
        "dBN((aW)u)/d(aW) = 1/a dBN(Wu)/dW": error(dw_a, dw / a),
    }


def identity(draw: torch.Generator) -> dict[str, float]:
    x = 5 * torch.randn(60, 20, dtype=torch.float64, generator=draw) + 3
    layer, (_, mu, var) = BatchNorm(20).double(), moments(x)
    with torch.no_grad():
        layer.weight.copy_((var + layer.eps).sqrt())
        layer.bias.copy_(mu)
        return {"gamma = sqrt(Var + eps), beta = E give y = x": error(layer(x), x)}


def inference(draw: torch.Generator) -> dict[str, float]:
    x = 5 * torch.randn(60, 20, dtype=torch.float64, generator=draw) + 3
    layer = BatchNorm(20).double()
    for _ in range(20):
        layer(x + torch.randn(60, 20, dtype=torch.float64, generator=draw))
    with torch.no_grad():
        y, (scale, shift) = layer.eval()(x), layer.fold()
        alone = torch.cat([layer(row[None]) for row in x])
        return {
            "inference is one affine map": error(scale * x + shift, y),
            "an example alone = in its batch": error(alone, y),
            "the same input twice": error(layer(x), y),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/exact.csv"), help="(%(default)s)")
    out = parser.parse_args().out
    draw, rows = torch.Generator().manual_seed(0), []
    for claim, measure in (("C4", scale_invariance), ("C5", identity), ("C6", inference)):
        worst = pd.DataFrame([measure(draw) for _ in range(TRIALS)]).max()
        rows += [(claim, name, value, TOLERANCE, TRIALS) for name, value in worst.items()]
    table = pd.DataFrame(rows, columns=["claim", "name", "value", "tolerance", "n"])
    try:
        write(out, table.to_csv(index=False, float_format="%.3g"))
    except OSError as error:
        print(f"exact: --out {out}: {error.strerror}", file=sys.stderr)
        return 1
    print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
