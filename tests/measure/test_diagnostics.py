"""The diagnostics of "why it works", against exact small cases and against their definitions by hand."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from bnrepro import models
from bnrepro.config import Config, ConfigError, DataConfig, EvalConfig, MLPConfig, OptimConfig
from bnrepro.data import Dataset, batch_indices
from bnrepro.measure.diagnostics import (
    active_singular_values,
    diagnose,
    jacobians,
    landscape,
    saturation,
    singular_values,
    slope,
)
from bnrepro.models import MLP, mlp
from bnrepro.rng import generator
from bnrepro.training.engines.eager import Eager
from bnrepro.training.state import Replica, State

KEY = torch.tensor([0, 0])
NETS = [{"norm": "none"}, {"norm": "bn"}, {"norm": "bn", "noise": 1.0}, {"norm": "bn", "placement": "after"}]


def dataset() -> Dataset:
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (32, 20), dtype=torch.uint8, generator=random)
    labels = torch.randint(0, 10, (32,), generator=random)
    return Dataset(images, labels, images, labels, scale=1 / 255, split="test")


DATA = dataset()


def config(norm="bn", width=12, depth=3, m=16, optim=None, **settings) -> Config:
    model = MLPConfig(norm=norm, width=width, depth=depth, **settings)
    return Config(
        data=DataConfig(batch_size=m), model=model, optim=OptimConfig(**({"lr": 0.5} | (optim or {})))
    )


def net(**settings) -> MLP:
    model = MLP(config(**settings).model, in_features=20).reset(0)
    with torch.no_grad():
        for weight in model.weights():
            weight.mul_(5)
    return model


def batches(m=16):
    """The two mini-batches of seed 0 that are measured, as the net gets them."""
    first, second = batch_indices(0, len(DATA.labels), m, 0, 2)
    x = DATA.inputs(DATA.images)
    return x[first], DATA.labels[first], x[second], DATA.labels[second]


def state_of(*nets: MLP, lr: float | None = None, step: int = 0, **settings) -> State:
    """Replicas of seed 0 with the parameters of these nets."""
    cfg = config(**settings)
    cfg.optim.lr = cfg.optim.lr if lr is None else lr
    state = State([Replica(cfg, 0) for _ in nets], DATA)
    state.step = step
    for s, model in enumerate(nets):
        params, buffers, _ = state.row(s)
        for name, tensor in (params | buffers).items():
            tensor.copy_(model.state_dict()[name])
    return state


def measured(model, lr=0.5, **settings):
    state = state_of(model, lr=lr, **settings)
    return diagnose(Eager(state, DATA), state, DATA)[0]


@pytest.mark.parametrize("settings", NETS)
def test_the_nets_are_left_as_they_were_found(settings):
    state = state_of(net(**settings), **settings)
    engine = Eager(state, DATA)
    engine.advance(state, 0, 1)
    before = {k: v.clone() for k, v in (state.params | state.buffers).items()}
    diagnose(engine, state, DATA)
    assert all(torch.equal(value, before[name]) for name, value in (state.params | state.buffers).items())
    assert all(p.dtype == torch.float32 and p.grad is None for p in state.params.values())


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
        names |= {
            f"{family}/{x}/{y}" for x in later[:2] for y in ("median", "log_spread", "from_one", "gain")
        }
    names |= {f"units/{layer}/{what}" for layer in inner[:3] for what in ("saturated", "dead")}
    assert set(found) == names
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("settings", NETS)
def test_nothing_shifts_where_the_predecessors_do_not_move(settings):
    found = measured(net(**settings), lr=0.0, **settings)
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
    found = measured(net(**settings), lr, **settings)
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
    model = net(norm="none", activation="relu")
    nn.init.constant_(model.hidden[0].get_parameter("bias"), -100)
    found = measured(model, norm="none", activation="relu")
    assert math.isnan(found["ics/hidden3/cosine"])
    assert found["gradient/hidden1/norm"] == 0
    assert found["units/hidden1/dead"] == 1


def test_along_the_gradient_a_quadratic_has_the_smoothness_of_its_matrix():
    """Of two replicas with different rates at once."""
    curvature = torch.diag(torch.tensor([1.0, 3.0, 0.5])).double()
    p, lr = torch.tensor([[1.0, -1.0, 2.0], [0.5, 2.0, 1.0]]).double(), torch.tensor([0.1, 0.02]).double()

    def gradient(params):
        return 0.5 * ((params["p"] @ curvature) * params["p"]).sum(1), {"p": params["p"] @ curvature}

    found = landscape(gradient, {"p": p}, {"p": p @ curvature}, lr)
    for s in range(2):
        g = curvature @ p[s]
        losses = [0.5 * q @ curvature @ q for q in (p[s] - lr[s] * f * g for f in (0.25, 0.5, 1, 2, 4))]
        expected = {
            "landscape/loss_low": min(losses).item(),
            "landscape/loss_high": max(losses).item(),
            "landscape/gradient_norm": g.norm().item(),
            "landscape/gradient_change": 4 * (lr[s] * (curvature @ g).norm()).item(),
            "landscape/smoothness": ((curvature @ g).norm() / g.norm()).item(),
        }
        assert {name: v[s].item() for name, v in found.items()} == pytest.approx(expected, rel=1e-12)


def test_the_lowest_loss_on_the_way_is_below_the_start_for_a_small_step():
    found = measured(net(), lr=1e-3)
    assert found["landscape/loss_low"] <= found["landscape/loss_high"] < found["landscape/loss"]


def hidden_layers(model, x):
    """(Wx + b, the input u of the nonlinearity, the output h) of each hidden layer in turn."""
    for i, linear in enumerate(model.hidden):
        mapped = linear(x.detach()).detach().requires_grad_()
        u, x = model.activated(i, mapped, KEY)
        yield mapped, u, x


@pytest.fixture
def linear(monkeypatch):
    """tanh is the identity, in nets that are made from now on."""
    monkeypatch.setitem(mlp.ACTIVATIONS, "tanh", lambda u: u)
    monkeypatch.setattr(models, "_skeletons", {})


def test_the_jacobian_of_a_linear_layer_is_its_weight(linear):
    model = net(norm="none", activation="tanh").double()
    layers = list(hidden_layers(model, batches()[0].double()))
    for (mapped, u, h), weight in zip(layers, model.weights()[:-1], strict=True):
        assert torch.equal(jacobians(h, mapped, weight), weight.expand(8, -1, -1))
        assert torch.equal(jacobians(u * 1, mapped, weight), weight.expand(8, -1, -1))


def test_an_orthogonal_linear_layer_has_all_its_singular_values_at_1(linear):
    model = net(norm="none", activation="tanh")
    nn.init.orthogonal_(model.hidden[1].get_parameter("weight"))
    found = measured(model, norm="none", activation="tanh")
    for family in ("jacobian", "jacobian_linear"):  # the weights are orthogonal within float32's rounding
        assert found[f"{family}/hidden2/median"] == pytest.approx(1, abs=1e-6)
        assert found[f"{family}/hidden2/log_spread"] == pytest.approx(0, abs=1e-6)
        assert found[f"{family}/hidden2/from_one"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("settings", [*NETS, {"norm": "layer"}, {"norm": "group"}])
@pytest.mark.parametrize("output", [0, 1])  # u, h
def test_the_jacobian_of_an_example_is_that_of_its_layer_in_its_batch(settings, output):
    """torch's own Jacobian of one example's output; the other examples of the batch are held."""
    settings = {"width": 10, **settings}
    model, x = net(**settings).double().train(), batches(6)[0].double()
    layers, mixes = list(hidden_layers(model, x)), settings["norm"] in ("layer", "group")
    outputs, weight = layers[1][1 + output] * 1, model.weights()[1].detach()
    found = jacobians(outputs, layers[1][0], weight, mixes, examples=2)
    inputs = layers[0][2].detach()

    def of_example_1(row):
        return model.layer(1, torch.cat([inputs[:1], row[None], inputs[2:]]), KEY)[output][1]

    expected = torch.autograd.functional.jacobian(of_example_1, inputs[1])
    torch.testing.assert_close(found[1], expected, rtol=1e-9, atol=1e-12)


def test_singular_values_are_summed_up_in_decades_over_active_directions():
    found = singular_values("s", torch.tensor([[100.0, 1.0, 0.1, torch.nan], [1.0, 1.0, 1.0, 1.0]]).double())
    assert found["s/median"].tolist() == pytest.approx([1, 1])
    assert found["s/from_one"].tolist() == pytest.approx([(2 + 0 + 1) / 3, 0])
    spread = torch.tensor([2.0, 0, -1]).std(correction=0).item()
    assert found["s/log_spread"].tolist() == pytest.approx([spread, 0])
    assert found["s/gain"].tolist() == pytest.approx([((1e4 + 1 + 0.01) / 4) ** 0.5, 1])


@given(st.integers(0, 8), st.integers(0, 10_000))
def test_inactive_units_take_out_directions_and_leave_the_others_theirs(inactive, seed):
    """The rows that remain of an orthogonal matrix are orthonormal: all of their singular values are 1."""
    weight = nn.init.orthogonal_(torch.empty(8, 8, dtype=torch.float64), generator=generator("q", seed))
    jacobian = weight * (torch.arange(8) >= inactive)[:, None]
    s = active_singular_values(jacobian[None])
    assert s.isfinite().sum() == 8 - inactive
    torch.testing.assert_close(s[s.isfinite()], torch.ones(8 - inactive, dtype=torch.float64))
    gain = singular_values("s", s)["s/gain"].item()
    assert gain == pytest.approx(((8 - inactive) / 8) ** 0.5)


def test_a_diverged_net_has_numbers_for_nothing_and_leaves_the_others_theirs():
    hurt, whole = net(), net()
    nn.init.constant_(hurt.hidden[0].get_parameter("weight"), torch.nan)
    state = state_of(hurt, whole)
    nothing, found = diagnose(Eager(state, DATA), state, DATA)
    assert nothing == {} and len(found) == 44
    assert found == pytest.approx(measured(whole), rel=1e-9)


def test_a_net_whose_loss_is_not_finite_has_no_number_and_stops_no_training():
    settings = {"norm": "none", "activation": "relu", "depth": 10}
    model = net(**settings)
    with torch.no_grad():
        for weight in model.weights():
            weight.fill_(1e38)
    found = measured(model, **settings)
    assert "landscape/loss" in found and all(map(math.isnan, found.values()))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_rate_is_that_of_the_step_at_hand(workers, forks):
    """Under a schedule the points along the gradient come nearer as the rate decays, in forked processes as well."""
    schedule = {"schedule": "step", "decay": 0.1, "decay_steps": 10}
    model, (x, labels, *_) = net().double().train(), batches()
    state = state_of(net(), net(), optim=schedule)
    engine = Eager(state, DATA, workers)
    for step, rate in ((0, 0.5), (9, 0.5), (10, 0.05), (25, 0.005)):
        state.step = step
        model.zero_grad()
        cross_entropy(model(x.double(), KEY)[0], labels).backward()
        losses = []
        for factor in (0.25, 0.5, 1, 2, 4):
            moved = copy.deepcopy(model)
            for p, mine in zip(moved.parameters(), model.parameters(), strict=True):
                assert mine.grad is not None
                p.data -= factor * rate * mine.grad
            losses.append(cross_entropy(moved(x.double(), KEY)[0], labels).item())
        for found in diagnose(engine, state, DATA):
            # the rate is a float32
            assert found["landscape/loss_high"] == pytest.approx(max(losses), rel=1e-6)
            assert found["landscape/loss_low"] == pytest.approx(min(losses), rel=1e-6)
    engine.close()


def test_weight_normalization_whose_matrices_are_no_parameters_is_refused():
    with pytest.raises(ConfigError, match=r"eval.diagnose: not for model.norm=weight"):
        Config(model=MLPConfig(norm="weight"), eval=EvalConfig(diagnose=True))


@pytest.mark.parametrize(
    ("activation", "u", "flat"),
    [
        (torch.sigmoid, [0.0, 4.2, -4.2, 4.5, -4.5], [0, 0, 0, 1, 1]),  # sigma'(u) = 0.05/4 at |u| = 4.36
        (torch.tanh, [0.0, 2.1, -2.1, 2.3, -2.3], [0, 0, 0, 1, 1]),  # 1 - tanh^2 = 0.05 at |u| = 2.18
        (torch.relu, [1e-6, 3.0, 0.0, -1e-6, -3.0], [0, 0, 1, 1, 1]),
    ],
)
def test_a_unit_is_saturated_where_its_slope_is_below_5_percent_of_the_steepest(activation, u, flat):
    slopes = slope(activation, torch.tensor([u], dtype=torch.float64))[None]
    assert (slopes < 0.05).int().tolist() == [[flat]]
    assert saturation("units", slopes)["units/saturated"].tolist() == pytest.approx([sum(flat) / 5])


def test_a_unit_is_dead_where_it_is_saturated_for_every_example():
    inputs = [[[1.0, -1.0, -1.0], [1.0, -1.0, 2.0]], [[1.0, 1.0, 1.0], [1.0, -1.0, 2.0]]]
    found = saturation("units", slope(torch.relu, torch.tensor(inputs)))
    assert found["units/dead"].tolist() == pytest.approx([1 / 3, 0])
    assert found["units/saturated"].tolist() == pytest.approx([1 / 2, 1 / 6])
