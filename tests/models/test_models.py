"""The MLP's variants and the normalizations that BN is compared with."""

import pytest
import torch

from bnrepro.config import BATCH_NORMS, NORMS, Config, ConfigError, DataConfig, MLPConfig
from bnrepro.data import load
from bnrepro.measure.evaluate import (
    evaluate,
    evaluate_by_batch,
    evaluate_train,
    training_rows,
    with_population_statistics,
)
from bnrepro.measure.probe import batch_noise
from bnrepro.models import MLP
from bnrepro.models.normalization import BatchRenorm, GhostBatchNorm, normalization
from bnrepro.norm import BatchNorm, normalization_layers
from bnrepro.training.engines.eager import Eager
from bnrepro.training.state import Replica, State


def features(n=32, c=6, seed=0):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + 3


def trained(layer, batches=200):
    """The layer with moving averages that have seen some batches."""
    for seed in range(batches):
        layer(features(seed=seed + 1))
    return layer


@pytest.mark.parametrize("norm", NORMS)
def test_a_seed_gives_every_variant_the_same_initial_weights(norm):
    reference, other = (MLP(MLPConfig(norm=n)).reset(3) for n in ("none", norm))
    for a, b in zip(reference.weights(), other.weights(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("norm", NORMS)
def test_only_batch_normalizations_make_an_output_depend_on_its_companions(norm):
    model = MLP(MLPConfig(norm=norm)).reset(0).train()
    x, others = torch.rand(2, 32, 784, generator=torch.Generator().manual_seed(0))
    alone, other = model(x)[0][:1], model(torch.cat([x[:1], others[1:]]))[0][:1]
    assert torch.allclose(alone, other) == (norm not in BATCH_NORMS)
    model.eval()
    assert torch.allclose(model(x)[0][:1], model(x[:1])[0], atol=1e-6)


def test_batch_renormalization_without_room_is_batch_normalization():
    x = features()
    plain, tight = BatchNorm(6).double(), BatchRenorm(6, 1e-5, 0.1, r_max=1.0, d_max=0.0).double()
    torch.testing.assert_close(tight(x), plain(x))
    torch.testing.assert_close(tight.state_dict(), plain.state_dict())


def test_batch_renormalization_without_limits_normalizes_by_its_moving_averages():
    layer = trained(BatchRenorm(6, 1e-5, 0.1, float("inf"), float("inf")).double())
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    x = features()
    torch.testing.assert_close(layer(x), (x - mean) / (var + 1e-5).sqrt())


def test_the_corrections_of_batch_renormalization_are_constants_for_the_gradient():
    """With them constant, the gradient is BN's times r: it vanishes for a common shift of the batch."""
    layer = trained(BatchRenorm(6, 1e-5, 0.1).double())
    x = features().requires_grad_()
    (grad,) = torch.autograd.grad((layer(x) ** 3).sum(), x)
    assert grad.abs().max() > 1e-3
    torch.testing.assert_close(grad.sum(0), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)


def test_ghost_batch_normalization_is_batch_normalization_of_each_group():
    x = features(48)
    ghost, plain = GhostBatchNorm(6, 1e-5, 0.1, size=16).double(), BatchNorm(6).double()
    torch.testing.assert_close(ghost(x), torch.cat([plain(part) for part in x.split(16)]))
    mean = 0.1 * torch.stack([part.mean(0) for part in x.split(16)]).mean(0)
    torch.testing.assert_close(ghost.running_mean, mean)


def test_a_ghost_batch_larger_than_the_batch_is_batch_normalization():
    x = features(8)
    ghost, plain = GhostBatchNorm(6, 1e-5, 0.1, size=16).double(), BatchNorm(6).double()
    torch.testing.assert_close(ghost(x), plain(x))
    torch.testing.assert_close(ghost.state_dict(), plain.state_dict())


def test_after_the_nonlinearity_bn_normalizes_the_layers_output():
    model = MLP(MLPConfig(norm="bn", placement="after")).reset(0).train()
    u, h = model.layer(0, torch.rand(60, 784))
    torch.testing.assert_close(h.mean(0), torch.zeros(100), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.norms[0](torch.sigmoid(u)), h)


@pytest.mark.parametrize(
    ("settings", "bias"),
    [
        ({"norm": "bn"}, False),
        ({"norm": "none"}, True),
        ({"norm": "bn", "affine": False}, True),
        ({"norm": "bn", "placement": "after"}, True),
        ({"norm": "bn", "bias": "on"}, True),
    ],
)
def test_a_layer_has_a_bias_unless_beta_takes_its_place(settings, bias):
    assert (MLP(MLPConfig(**settings)).hidden[0].bias is not None) == bias


def test_injected_noise_is_a_function_of_seed_and_step_and_stops_at_inference():
    model, x = MLP(MLPConfig(norm="bn", noise=1.0)).reset(0).train(), torch.rand(60, 784)
    first, again, later = (model(x, torch.tensor([0, t]))[1]["hidden1"] for t in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert first.mean(0).abs().max() > 0.2  # BN alone would leave means of zero
    quiet = model.eval()(x, torch.tensor([0, 5]))[0]
    assert torch.equal(quiet, model(x)[0])


@pytest.mark.parametrize(
    ("model", "batch_size"),
    [
        ({"norm": "ghost"}, 24),
        ({"norm": "renorm"}, 1),
        ({"norm": "layr"}, 60),
        ({"affine": False}, 60),
        ({"norm": "renorm", "r_max": 0.5}, 60),
    ],
)
def test_settings_that_make_no_net_are_refused(model, batch_size):
    with pytest.raises(ConfigError):
        Config(model=MLPConfig(**model), data=DataConfig(batch_size=batch_size))


@pytest.fixture(scope="module")
def data():
    return load(DataConfig(batch_size=50))


def untrained(data, **settings):
    """An engine and the state of one net with its initial weights, and the net itself."""
    cfg = Config(data=DataConfig(batch_size=50), model=MLPConfig(**settings))
    state = State([Replica(cfg, 0)], data)
    return Eager(state, data), state, MLP(cfg.model).reset(0)


def test_statistics_of_one_batch_of_all_test_images_are_theirs(data):
    """For one batch of everything, normalizing by the batch is evaluating in training mode."""
    engine, state, model = untrained(data, norm="bn")
    (found,) = evaluate_by_batch(engine, state, data, len(data.eval_labels))
    logits, _ = model.train()(data.eval_images.float() * data.scale)
    assert found["test/accuracy_batch"] == (logits.argmax(1) == data.eval_labels).double().mean().item()


def test_without_bn_the_batch_of_an_example_does_not_matter(data):
    engine, state, _ = untrained(data)
    (by_batch,), (plain,) = evaluate_by_batch(engine, state, data, 50), evaluate(engine, state, data)
    assert by_batch["test/loss_batch"] == pytest.approx(plain["test/loss"])


def test_training_images_are_evaluated_like_test_images(data):
    engine, state, model = untrained(data, norm="bn")
    logits, _ = model.eval()(data.images.float() * data.scale)
    expected = (logits.argmax(1) == data.labels).double().mean().item()
    (found,) = evaluate_train(engine, state, data)
    assert found["train/accuracy_eval"] == pytest.approx(expected)


def test_the_noise_of_a_batchs_mean_follows_theory(data, monkeypatch):
    monkeypatch.setattr("bnrepro.measure.probe.NOISE_COMPANIONS", 10)
    (values,) = batch_noise(*untrained(data, norm="bn", width=20, depth=2)[:2], data, [0])
    for m in (8, 32, 128, 512):
        assert values[f"noise/mu/m{m}"] == pytest.approx(1 / m, rel=0.35)  # 400 draws: 5 standard errors
    assert values["noise/kurtosis"] > 1
    assert values["noise/logit/m8"] > values["noise/logit/m512"] > 0


@pytest.mark.parametrize("norm", ["bn", "renorm"])
def test_population_statistics_are_averages_of_the_net_as_it_was(norm, data):
    """By hand; Batch Renormalization's moving averages stay its normalizer while they are measured."""
    engine, state, model = untrained(data, norm=norm, width=12)
    engine.advance(state, 0, 20)
    before = {k: v.clone() for k, v in (state.params | state.buffers).items()}
    found = with_population_statistics(engine, state, data, 50)
    assert all(torch.equal(v, before[k]) for k, v in (state.params | state.buffers).items())
    means = []  # of what enters the second layer's normalization
    net = {k: v[0] for k, v in before.items()}
    model.norms[1].register_forward_pre_hook(lambda _, x: means.append((x[0].mean(0), x[0].var(0))))
    for rows in training_rows(data, 50, 0):
        model.load_state_dict(net)
        model.eval()
        for layer in normalization_layers(model):
            layer.train()
        model(data.inputs(data.images[rows]))
    for name, parts in zip(("running_mean", "running_var"), zip(*means, strict=True), strict=True):
        expected = torch.stack(parts).mean(0)
        torch.testing.assert_close(found.buffers[f"norms.1.{name}"][0], expected, rtol=1e-4, atol=1e-5)


def test_groups_are_as_many_as_divide_the_width_up_to_ten():
    groups = [normalization(MLPConfig(norm="group"), width).num_groups for width in (100, 64, 12, 7, 11)]
    assert groups == [10, 8, 6, 7, 1]


def test_fewer_training_images_are_a_subset_of_more():
    few, more = (load(DataConfig(examples=n)) for n in (500, 1000))
    first = torch.arange(500)
    for seed in (0, 1):
        assert torch.equal(few.seen(seed, first), more.seen(seed, first))
    assert torch.equal(few.images, more.images) and torch.equal(few.labels, more.labels)
    assert torch.equal(few.eval_images, more.eval_images)
