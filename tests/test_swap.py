"""convert: a network computes, trains and is saved as before, with the other's layers in it."""

import copy

import pytest
import torch
from torch import nn

import bnrepro
from bnrepro.config import MLPConfig
from bnrepro.models import MLP
from bnrepro.models.normalization import GhostBatchNorm
from bnrepro.norm import BatchNorm


def network():
    torch.manual_seed(0)
    shared = nn.BatchNorm1d(6)
    return nn.Sequential(
        nn.Conv1d(2, 6, 3),
        shared,
        nn.Sequential(nn.ReLU(), shared),
        nn.Flatten(),
        nn.Linear(18, 4),
        nn.BatchNorm1d(4),
    )


def kinds(model):
    return [type(m) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_there_and_back_a_network_trains_as_if_nothing_had_happened():
    left, x = network(), torch.randn(9, 2, 5)
    alone = copy.deepcopy(left)
    optimizer, other = (torch.optim.SGD(m.parameters(), 0.1, momentum=0.9) for m in (left, alone))
    for to in ("torch", "bnrepro", "bnrepro", "torch"):
        assert bnrepro.convert(left, to) is left
        for model, optim in ((left, optimizer), (alone, other)):
            optim.zero_grad()
            model(x).square().sum().backward()
            optim.step()
        assert kinds(left) == [BatchNorm if to == "bnrepro" else nn.BatchNorm1d] * 2
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(left.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert left[1] is left[2][1]


def test_settings_and_modes_are_kept_and_a_single_layer_is_returned():
    layer = nn.BatchNorm2d(3, eps=1e-3, momentum=None, affine=False).eval()
    ours = bnrepro.convert(layer)
    assert isinstance(ours, BatchNorm) and not ours.training
    assert (ours.eps, ours.momentum, ours.affine) == (1e-3, None, False)
    assert isinstance(bnrepro.convert(ours, "torch"), nn.BatchNorm2d)


def test_our_own_nets_become_torchs():
    net = bnrepro.convert(MLP(MLPConfig(norm="bn", width=5)).reset(0), "torch")
    assert kinds(net) == [nn.BatchNorm1d] * 3


def test_what_cannot_be_swapped_is_refused_before_anything_is_changed():
    for bad, said in (
        (BatchNorm(3), "1: 1d, 2d or 3d"),
        (GhostBatchNorm(3, 1e-5, 0.1), "1: torch has no GhostBatchNorm"),
    ):
        model = nn.Sequential(bnrepro.convert(nn.BatchNorm1d(3)), bad)
        with pytest.raises(ValueError, match=said):
            bnrepro.convert(model, "torch")
        assert type(model[0]) is BatchNorm
    with pytest.raises(ValueError, match="the model: a lazy layer"):
        bnrepro.convert(nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match=r'to=.jax.: "bnrepro" or "torch"'):
        bnrepro.convert(nn.BatchNorm1d(3), "jax")
    with pytest.warns(UserWarning, match="SyncBatchNorm is left"):
        assert kinds(bnrepro.convert(nn.Sequential(nn.SyncBatchNorm(3)))) == [nn.SyncBatchNorm]
