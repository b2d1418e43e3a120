"""The diagnostics of "why it works", against exact small cases and against their definitions by hand."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bnrepro.config import ModelConfig
from bnrepro.diagnostics import (
    diagnose,
    hidden_layers,
    jacobians,
    landscape,
    saturation,
    singular_values,
    slope,
)
from bnrepro.models import MLP

KEY = torch.tensor([0, 0])
NETS = [{"norm": "none"}, {"norm": "bn"}, {"norm": "bn", "noise": 1.0}, {"norm": "bn", "placement": "after"}]


def net(norm="bn", width=12, depth=3, **settings) -> MLP:
    model = MLP(ModelConfig(norm=norm, width=width, depth=depth, **settings), in_features=20).reset(0)
    with torch.no_grad():
        for weight in model.weights():
            weight.mul_(5)
    return model


def batches(m=16):
    random = torch.Generator().manual_seed(1)
    x, labels = torch.rand(2, m, 20, generator=random), torch.randint(0, 10, (2, m), generator=random)
    return x[0], labels[0], x[1], labels[1]


def measured(model, lr=0.5, m=16):
    return diagnose(model, *batches(m), KEY, lr)


@pytest.mark.parametrize("settings", NETS)
def test_the_model_is_left_as_it_was_found(settings):
    model = net(**settings)
    model(batches()[0])
    model.train(False)
    model.norms[0].train()
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    measured(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_every_number_has_its_name_and_is_finite():
    found = measured(net())
    inner, later = ("hidden1", "hidden2", "hidden3", "classifier"), ("hidden2", "hidden3", "classifier")
    names = {f"gradient/{layer}/norm" for layer in inner}
    names |= {
        f"{f}/{layer}/{what}" for f in ("ics", "ics_next") for layer in later for what in ("l2", "cosine")
    }
    what = ("loss", "loss_low", "loss_high", "gradient_norm", "gradient_change", "smoothness")
    names |= {f"landscape/{each}" for each in what}
    for family in ("jacobian", "jacobian_linear"):
        names |= {f"{family}/{x}/{y}" for x in later[:2] for y in ("median", "log_spread", "from_one")}
    names |= {f"units/{layer}/{what}" for layer in inner[:3] for what in ("saturated", "dead")}
    assert set(found) == names
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("settings", NETS)
def test_nothing_shifts_where_the_predecessors_do_not_move(settings):
    found = measured(net(**settings), lr=0.0)
    assert all(value == 0 for name, value in found.items() if name.startswith("ics") and name.endswith("/l2"))
    cosines = [value for name, value in found.items() if name.endswith("/cosine")]
    assert cosines == pytest.approx([1.0] * 6, abs=1e-12)
    assert math.isnan(found["landscape/smoothness"])
    assert found["landscape/loss_low"] == found["landscape/loss_high"] == found["landscape/loss"]


@pytest.mark.parametrize("settings", NETS)
def test_covariate_shift_is_the_definition_with_an_optimizer_that_steps_the_first_two_layers(settings):
    model, (x, labels, next_x, next_labels), lr = net(**settings).double().train(), batches(), 0.5
    x, next_x = x.double(), next_x.double()

    def gradient(net, x, labels):
        net.zero_grad()
        cross_entropy(net(x, KEY)[0], labels).backward()
        return net.hidden[2].weight.grad.clone()

    before_next, before = gradient(model, next_x, next_labels), gradient(model, x, labels)
    moved = copy.deepcopy(model)
    gradient(moved, x, labels)
    earlier = [*moved.hidden[:2].parameters(), *moved.norms[:2].parameters()]
    torch.optim.SGD(earlier, lr).step()
    found = diagnose(model, x, labels, next_x, next_labels, KEY, lr)
    pairs = {"ics": (before, gradient(moved, x, labels))}
    pairs["ics_next"] = (before_next, gradient(moved, next_x, next_labels))
    for family, (g, after) in pairs.items():
        assert found[f"{family}/hidden3/l2"] == pytest.approx((g - after).norm().item(), rel=1e-9)
        cosine = torch.cosine_similarity(g.flatten(), after.flatten(), dim=0).item()
        assert found[f"{family}/hidden3/cosine"] == pytest.approx(cosine, rel=1e-9)
    assert found["gradient/hidden3/norm"] == pytest.approx(before.norm().item(), rel=1e-9)


def test_a_shift_far_below_the_rounding_of_float32_is_measured():
    model = net()
    large, small = measured(model, lr=1e-7), measured(model, lr=1e-9)
    assert large["ics/hidden3/l2"] / small["ics/hidden3/l2"] == pytest.approx(100, rel=1e-3)


def test_a_zero_gradient_has_no_cosine():
    model = net("none", activation="relu")
    nn.init.constant_(model.hidden[0].get_parameter("bias"), -100)
    found = measured(model)
    assert math.isnan(found["ics/hidden3/cosine"])
    assert found["gradient/hidden1/norm"] == 0
    assert found["units/hidden1/dead"] == 1


def test_along_the_gradient_a_quadratic_has_the_smoothness_of_its_matrix():
    curvature, p = torch.diag(torch.tensor([1.0, 3.0, 0.5])).double(), torch.tensor([1.0, -1.0, 2.0]).double()

    def gradient(params):
        return 0.5 * params["p"] @ curvature @ params["p"], {"p": curvature @ params["p"]}

    g, lr = curvature @ p, 0.1
    found = landscape(gradient, {"p": p}, {"p": g}, lr)
    losses = [gradient({"p": p - lr * f * g})[0].item() for f in (0.25, 0.5, 1, 2, 4)]
    expected = {
        "landscape/loss_low": min(losses),
        "landscape/loss_high": max(losses),
        "landscape/gradient_norm": g.norm().item(),
        "landscape/gradient_change": 4 * lr * (curvature @ g).norm().item(),
        "landscape/smoothness": ((curvature @ g).norm() / g.norm()).item(),
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-12)


def test_the_lowest_loss_on_the_way_is_below_the_start_for_a_small_step():
    found = measured(net(), lr=1e-3)
    assert found["landscape/loss_low"] <= found["landscape/loss_high"] < found["landscape/loss"]


def test_the_jacobian_of_a_linear_layer_is_its_weight():
    model = net("none").double()
    model.activation = lambda u: u
    layers = list(hidden_layers(model, batches()[0].double(), KEY))
    for (mapped, u, h), weight in zip(layers, model.weights()[:-1], strict=True):
        assert torch.equal(jacobians(h, mapped, weight), weight.expand(8, -1, -1))
        assert torch.equal(jacobians(u, mapped, weight), weight.expand(8, -1, -1))


def test_an_orthogonal_linear_layer_has_all_its_singular_values_at_1():
    model = net("none").double()
    model.activation = lambda u: u
    nn.init.orthogonal_(model.hidden[1].get_parameter("weight"))
    found = measured(model)
    assert found["jacobian/hidden2/median"] == pytest.approx(1)
    assert found["jacobian/hidden2/log_spread"] == pytest.approx(0, abs=1e-12)
    assert found["jacobian/hidden2/from_one"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("settings", [*NETS, {"norm": "layer"}, {"norm": "group"}])
@pytest.mark.parametrize("output", [0, 1])  # u, h
def test_the_jacobian_of_an_example_is_that_of_its_layer_in_its_batch(settings, output):
    """torch's own Jacobian of one example's output; the other examples of the batch are held."""
    settings = {"width": 10, **settings}
    model, x = net(**settings).double().train(), batches(6)[0].double()
    layers = list(hidden_layers(model, x, KEY))
    found = jacobians(layers[1][1 + output], layers[1][0], model.weights()[1].detach(), examples=2)
    inputs = layers[0][2].detach()

    def of_example_1(row):
        return model.layer(1, torch.cat([inputs[:1], row[None], inputs[2:]]), KEY)[output][1]

    expected = torch.autograd.functional.jacobian(of_example_1, inputs[1])
    torch.testing.assert_close(found[1], expected, rtol=1e-9, atol=1e-12)


def test_singular_values_are_summed_up_in_decades_above_the_floor():
    found = singular_values("s", torch.diag(torch.tensor([100.0, 1.0, 0.1, 0.0])).double()[None])
    assert found["s/median"].item() == pytest.approx(0.55)
    assert found["s/from_one"].item() == pytest.approx((2 + 0 + 1 + 4) / 4)
    assert found["s/log_spread"].item() == pytest.approx(
        torch.tensor([2.0, 0, -1, -4]).std(correction=0).item()
    )


def test_a_diverged_net_has_numbers_for_nothing_and_stops_no_training():
    model = net()
    nn.init.constant_(model.hidden[0].get_parameter("weight"), torch.nan)
    found = measured(model)
    assert len(found) == 40 and all(map(math.isnan, found.values()))


@pytest.mark.parametrize(
    ("activation", "u", "flat"),
    [
        (torch.sigmoid, [0.0, 4.2, -4.2, 4.5, -4.5], [0, 0, 0, 1, 1]),  # sigma'(u) = 0.05/4 at |u| = 4.36
        (torch.tanh, [0.0, 2.1, -2.1, 2.3, -2.3], [0, 0, 0, 1, 1]),  # 1 - tanh^2 = 0.05 at |u| = 2.18
        (torch.relu, [1e-6, 3.0, 0.0, -1e-6, -3.0], [0, 0, 1, 1, 1]),
    ],
)
def test_a_unit_is_saturated_where_its_slope_is_below_5_percent_of_the_steepest(activation, u, flat):
    slopes = slope(activation, torch.tensor([u], dtype=torch.float64))
    assert (slopes < 0.05).int().tolist() == [flat]
    assert saturation("units", slopes)["units/saturated"].item() == pytest.approx(sum(flat) / 5)


def test_a_unit_is_dead_where_it_is_saturated_for_every_example():
    slopes = slope(torch.relu, torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, 2.0]]))
    found = saturation("units", slopes)
    assert found["units/dead"].item() == pytest.approx(1 / 3)
    assert found["units/saturated"].item() == pytest.approx(1 / 2)
