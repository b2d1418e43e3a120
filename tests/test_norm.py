"""Batch Normalization: equal to torch's, to the paper's equations, and to its claims C4 to C6."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, hessian, jacfwd, jvp, vmap
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from bnrepro.models.normalization import BatchRenorm
from bnrepro.norm import BatchNorm, BatchNormTransform, moments, population_statistics

SHAPES = [(8, 5), (6, 5, 3, 4)]


def pair(shape, **settings):
    """Our layer and torch's with the same random affine parameters and history, in float64."""
    torch.manual_seed(len(shape))
    theirs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1], **settings).double()
    for name in ("weight", "bias", "running_mean", "running_var"):
        nn.init.uniform_(getattr(theirs, name), 0.5, 2)
    ours = BatchNorm(shape[1], **settings).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def inputs(shape, offset=2.0, spread=3.0):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7)) * spread + offset
    return x.clone().requires_grad_(), x.clone().requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum", [0.1, 0.0, None])
def test_training_equals_torch_in_output_gradients_and_running_statistics(shape, momentum):
    (ours, theirs), (x, x2) = pair(shape, momentum=momentum), inputs(shape)
    y, y2 = ours(x), theirs(x2)
    for _ in range(3):
        y, y2 = ours(x), theirs(x2)
        weights = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view_as(y)
        (y * weights).sum().backward()
        (y2 * weights).sum().backward()
    torch.testing.assert_close(y, y2, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(x.grad, x2.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-10, atol=1e-10)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_equals_torch_and_the_folded_affine_map(shape):
    (ours, theirs), (x, x2) = pair(shape), inputs(shape)
    y = ours.eval()(x)
    torch.testing.assert_close(y, theirs.eval()(x2), rtol=1e-10, atol=1e-10)
    scale, shift = (v.view(-1, *[1] * (x.ndim - 2)) for v in ours.fold())
    torch.testing.assert_close(y, scale * x + shift, rtol=1e-10, atol=1e-10)


def test_a_state_dict_goes_to_torch_and_back():
    ours, theirs = pair((8, 5))
    ours(inputs((8, 5))[0])
    theirs.load_state_dict(ours.state_dict())
    again = BatchNorm(5).double()
    again.load_state_dict(theirs.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours.state_dict().values(), again.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 2, 2)])
def test_first_and_second_derivatives_agree_with_finite_differences(shape):
    x = inputs(shape)[0]
    gamma, beta = (torch.rand(shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2))

    def y(*args):
        return BatchNormTransform.apply(*args, 1e-5)[0]

    assert torch.autograd.gradcheck(y, (x, gamma, beta))
    assert torch.autograd.gradgradcheck(y, (x, gamma, beta))


def test_the_backward_pass_is_the_six_equations_as_printed():
    m, eps = 8, 1e-5
    x, gamma = inputs((m, 5))[0], torch.rand(5, dtype=torch.float64, requires_grad=True)
    beta = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    y, mu, var = BatchNormTransform.apply(x, gamma, beta, eps)
    dy = torch.randn(m, 5, dtype=torch.float64)
    dx, dgamma, dbeta = torch.autograd.grad(y, (x, gamma, beta), dy)

    x_hat = (x - mu) / (var + eps).sqrt()
    dx_hat = dy * gamma
    dvar = (dx_hat * (x - mu) * -0.5 * (var + eps) ** -1.5).sum(0)
    dmu = (dx_hat * -1 / (var + eps).sqrt()).sum(0) + dvar * (-2 * (x - mu)).sum(0) / m
    torch.testing.assert_close(dx, dx_hat / (var + eps).sqrt() + dvar * 2 * (x - mu) / m + dmu / m)
    torch.testing.assert_close(dgamma, (dy * x_hat).sum(0))
    torch.testing.assert_close(dbeta, dy.sum(0))


@given(scale=st.floats(0.05, 50))
@settings(max_examples=20)
def test_scaling_the_weights_changes_no_output_and_scales_their_gradient_inversely(scale):
    u, weight = torch.randn(20, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    direction = torch.randn(20, 4, dtype=torch.float64)
    results = []
    for a in (1.0, scale):
        u_, aw = u.clone().requires_grad_(), (a * weight).requires_grad_()
        y = BatchNorm(4, eps=1e-30).double()(u_ @ aw.T)
        results.append((y, *torch.autograd.grad((y * direction).sum(), (u_, aw))))
    (y, du, dw), (y_a, du_a, dw_a) = results
    torch.testing.assert_close(y_a, y)
    torch.testing.assert_close(du_a, du)
    torch.testing.assert_close(dw_a, dw / scale)


def test_gamma_and_beta_can_make_the_identity():
    x = inputs((32, 5))[0]
    _, mu, var = moments(x)
    layer = BatchNorm(5).double()
    with torch.no_grad():
        layer.weight.copy_((var + layer.eps).sqrt())
        layer.bias.copy_(mu)
    torch.testing.assert_close(layer(x), x)


def test_in_evaluation_an_example_does_not_depend_on_its_companions():
    layer = pair((8, 5))[0].eval()
    x = inputs((8, 5))[0]
    assert torch.equal(layer(x)[:1], layer(torch.cat([x[:1], 1000 * x[1:]]))[:1])


@pytest.mark.parametrize("shape", [(1, 5), (1, 5, 1, 1)])
def test_one_value_per_feature_is_refused_in_training(shape):
    with pytest.raises(ValueError, match="more than 1 value per feature"):
        BatchNorm(5)(torch.zeros(shape))
    BatchNorm(5).eval()(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4, 6), (4,), (4, 3, 5)])
def test_a_wrong_shape_is_refused_with_both_shapes_named(shape):
    with pytest.raises(ValueError, match=r"expected \(N, 5, ...\), got"):
        BatchNorm(5)(torch.zeros(shape))


@pytest.mark.parametrize("kind", ["offset", "constant", "tiny", "huge", "outlier"])
def test_extreme_inputs_are_as_accurate_as_torchs_own(kind):
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(3))
    x = {
        "offset": 1e4 + 1e-4 * x,
        "constant": torch.full_like(x, 12345.678),
        "tiny": 1e-20 * x,
        "huge": 1e15 * x,
        "outlier": torch.cat([torch.full((1, 3), 1e6), x[1:]]),
    }[kind]
    dy = torch.randn(64, 3, generator=torch.Generator().manual_seed(4))

    def result(layer, x):
        x = x.clone().requires_grad_()
        y = layer(x)
        y.backward(dy.to(x.dtype))
        return torch.cat([y.detach(), x.grad, layer.running_mean[None], layer.running_var[None]]).double()

    truth = result(nn.BatchNorm1d(3).double(), x.double())
    scale = truth.abs().amax(dim=1, keepdim=True) + 1e-30

    def error(layer):
        return ((result(layer, x) - truth).abs() / scale).max().item()

    assert error(BatchNorm(3)) <= max(2 * error(nn.BatchNorm1d(3)), 1e-5)


def test_under_vmap_each_replica_is_normalized_alone_and_tracks_its_own_statistics():
    x = torch.randn(3, 16, 5)
    layer = BatchNorm(5)
    buffers = {k: torch.stack([v] * 3) for k, v in layer.named_buffers()}
    y = vmap(lambda b, x: functional_call(layer, b, (x,)))(buffers, x)
    for s in range(3):
        alone = BatchNorm(5)
        torch.testing.assert_close(y[s], alone(x[s]))
        torch.testing.assert_close(buffers["running_var"][s], alone.running_var)
    assert buffers["num_batches_tracked"].tolist() == [1, 1, 1]


def test_under_bfloat16_autocast_statistics_stay_in_float32():
    linear, layer, theirs = nn.Linear(8, 5), BatchNorm(5), nn.BatchNorm1d(5)
    x = torch.randn(32, 8) + 100
    with torch.autocast("cpu", torch.bfloat16):
        u = linear(x)
        y, y2 = layer(u), theirs(u)
    assert y.dtype == y2.dtype == torch.bfloat16
    torch.testing.assert_close(y, y2)
    torch.testing.assert_close(layer.running_var, theirs.running_var)
    y.sum().backward()
    assert linear.weight.grad is not None and linear.weight.grad.isfinite().all()


@pytest.mark.parametrize("make", [BatchNorm, nn.BatchNorm1d])
def test_population_statistics_are_algorithm_2(make):
    model = nn.Sequential(nn.Linear(6, 4), make(4), nn.Dropout(0.5))
    batches = [torch.randn(10, 6) for _ in range(7)]
    u = torch.stack([model[0](b) for b in batches])
    population_statistics(model, batches)
    torch.testing.assert_close(model[1].running_mean, u.mean(1).mean(0))
    torch.testing.assert_close(model[1].running_var, u.var(1, correction=0).mean(0) * 10 / 9)
    assert model.training and model[1].training and model[1].momentum == 0.1
    with pytest.raises(ValueError, match="at least one"):
        population_statistics(model, [])


def test_population_statistics_take_the_batches_of_a_loader_and_weigh_the_last_one_by_its_size():
    x = torch.arange(23.0)[:, None].repeat(1, 3)
    model = nn.Sequential(BatchNorm(3))
    population_statistics(model, DataLoader(TensorDataset(x, x), 10))
    parts = x.split(10)
    torch.testing.assert_close(model[0].running_mean, x.mean(0))
    expected = sum(len(part) * part.var(0) for part in parts) / 23
    torch.testing.assert_close(model[0].running_var, expected)
    assert model[0].num_batches_tracked == 3
    with pytest.raises(TypeError, match=r"a tensor or \(x, y\), got dict"):
        population_statistics(model, [{"x": x}])
    torch.testing.assert_close(model[0].running_var, expected)


def test_population_statistics_leave_a_layer_alone_that_only_training_uses():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.auxiliary = BatchNorm(3), BatchNorm(3)

        def forward(self, x):
            return self.main(x) + (self.auxiliary(x) if self.training else 0)

    model, x = TwoHeads(), torch.randn(20, 3) + 5
    population_statistics(model, [x])
    torch.testing.assert_close(model.main.running_mean, x.mean(0))
    assert torch.equal(model.auxiliary.running_mean, torch.zeros(3)) and model.training


@pytest.mark.parametrize("make", [BatchNorm, nn.BatchNorm1d])
def test_population_statistics_mend_running_statistics_that_have_overflowed(make):
    layer, x = make(3), torch.randn(20, 3)
    layer.running_var.fill_(math.inf)
    with pytest.raises(ValueError, match="at least one"):
        population_statistics(layer, [])
    assert layer.running_var.isinf().all()
    population_statistics(layer, [x])
    torch.testing.assert_close(layer.running_var, x.var(0))


def test_population_statistics_count_every_use_of_a_shared_layer():
    layer = BatchNorm(3)
    x = torch.randn(20, 3) + 5
    population_statistics(nn.Sequential(layer, nn.Tanh(), layer), [x])
    inside = torch.tanh((x - x.mean(0)) / (x.var(0, correction=0) + layer.eps).sqrt())
    torch.testing.assert_close(layer.running_mean, (x.mean(0) + inside.mean(0)) / 2)


def test_population_statistics_of_batch_renormalization_are_those_of_the_net_as_it_was():
    first, second = BatchRenorm(4, 1e-5, 0.1, float("inf"), float("inf")), BatchNorm(4)
    model = nn.Sequential(first, nn.ReLU(), second)
    first.running_mean.fill_(2)
    first.running_var.fill_(9)
    x = torch.randn(50, 4)
    population_statistics(model, [x])
    torch.testing.assert_close(first.running_mean, x.mean(0))
    between = torch.relu((x - 2) / (9 + first.eps) ** 0.5)
    torch.testing.assert_close(second.running_mean, between.mean(0))


def test_a_state_dict_from_before_batches_were_counted_is_loaded():
    old = nn.BatchNorm1d(5).state_dict()
    del old["num_batches_tracked"]
    old._metadata[""]["version"] = 1
    layer = BatchNorm(5)
    layer.load_state_dict(old)
    assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("shape", [(4, 5, 3), (2, 5, 3, 2, 2)])
def test_any_number_of_places_shares_a_feature_s_statistics(shape):
    theirs = nn.BatchNorm1d(5) if len(shape) == 3 else nn.BatchNorm3d(5)
    ours, x = BatchNorm(5), torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("settings", [{"track_running_stats": False}, {"bias": False}, {"affine": False}])
def test_what_torch_can_leave_out_can_be_left_out(settings):
    ours, theirs, x = BatchNorm(5, **settings), nn.BatchNorm1d(5, **settings), torch.randn(8, 5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x))


def test_forward_mode_agrees_with_finite_differences_and_with_second_derivatives_in_reverse():
    layer, h = BatchNorm(5).double(), 1e-6
    x, v = (torch.randn(8, 5, dtype=torch.float64) for _ in range(2))
    nn.init.uniform_(layer.weight)
    _, tangent = jvp(layer, (x,), (v,))
    torch.testing.assert_close(tangent, (layer(x + h * v) - layer(x - h * v)) / (2 * h), rtol=1e-7, atol=1e-7)

    def cubes(x):
        return layer(x).pow(3).sum()

    torch.testing.assert_close(hessian(cubes)(x), torch.autograd.functional.hessian(cubes, x))
    torch.testing.assert_close(jacfwd(jacfwd(cubes))(x), torch.autograd.functional.hessian(cubes, x))


def test_third_derivatives_are_right():
    x = torch.randn(4, 1, dtype=torch.float64, requires_grad=True)

    def y(x):
        return BatchNormTransform.apply(
            x, *(torch.tensor([v], dtype=torch.float64) for v in (1.5, 0.2)), 1e-5
        )[0]

    def slope(x):
        return torch.autograd.grad(y(x).pow(2).mul(torch.arange(4.0)[:, None]).sum(), x, create_graph=True)[0]

    assert torch.autograd.gradgradcheck(slope, (x,))


def test_torch_s_own_tools_know_the_layer():
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(BatchNorm(5)))
    assert isinstance(synced[0], nn.SyncBatchNorm)
    model = nn.Sequential(BatchNorm(5))
    x = torch.randn(8, 5) + 7
    update_bn([x], model)
    torch.testing.assert_close(model[0].running_mean, x.mean(0))
    conv, layer, image = nn.Conv2d(3, 5, 3), BatchNorm(5), torch.randn(2, 3, 6, 6)
    layer(conv(image))
    torch.testing.assert_close(
        fuse_conv_bn_eval(conv.eval(), layer.eval())(image), layer(conv(image)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_layer_can_be_exported(training):
    model = nn.Sequential(nn.Linear(5, 5), BatchNorm(5)).train(training)
    x = torch.randn(8, 5)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


def test_statistics_stay_in_float32_when_a_layer_is_made_half():
    layer, x = BatchNorm(3, momentum=1.0).half(), 1000 * torch.randn(64, 3)
    assert layer.weight.dtype == torch.float16 and layer(x.half()).dtype == torch.float16
    torch.testing.assert_close(layer.running_var, x.var(0), rtol=1e-2, atol=0)
    assert (layer.eval()(x.half()).std(0) > 0.9).all()
    layer.running_mean.fill_(1 / 3)
    assert layer.half().running_mean.tolist() == layer.float().running_mean.tolist()
    assert BatchNorm(3, dtype=torch.bfloat16).running_var.dtype == torch.float32
    assert BatchNorm(3).double().running_var.dtype == torch.float64


def test_the_folded_map_keeps_its_digits_far_from_zero():
    layer = BatchNorm(1).eval()
    layer.running_mean.fill_(1e6)
    layer.running_var.fill_(1e-4)
    x = torch.tensor([1e6, 1e6 + 0.0625, 1e6 + 0.125])
    scale, shift = layer.fold()
    torch.testing.assert_close((scale * x + shift).float(), layer(x[:, None]).flatten())
    with pytest.raises(ValueError, match="without running statistics"):
        BatchNorm(1, track_running_stats=False).fold()


def test_an_offset_of_a_million_costs_no_digits_where_torch_loses_five():
    x = torch.randn(4096, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    x = (x + 1e6).float()
    truth = nn.BatchNorm1d(1).double()(x.double())

    def error(layer):
        return (layer(x).double() - truth).abs().max().item()

    assert error(BatchNorm(1)) < 1e-5 < error(nn.BatchNorm1d(1))


def test_evaluating_before_training_does_not_spoil_the_backward_pass():
    layer, other = BatchNorm(5), BatchNorm(5)
    x = torch.randn(8, 5)
    layer.eval()(x)
    for each in (layer.train(), other):
        (each(x) * x).sum().backward()
    assert torch.equal(layer.weight.grad, other.weight.grad)
