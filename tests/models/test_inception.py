"""Inception: the table of Figure 5, its parts, its initial weights, and the same engines as the MLP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bnrepro import machine
from bnrepro.config import (
    Config,
    ConfigError,
    DataConfig,
    EvalConfig,
    InceptionConfig,
    MLPConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from bnrepro.data import DataError, Dataset, batch_indices, load
from bnrepro.measure.evaluators import Measurer
from bnrepro.models import Inception
from bnrepro.models.inception import FIGURE5, local_response_norm
from bnrepro.norm import normalization_layers
from bnrepro.training.engines import Engine, build_engine
from bnrepro.training.engines.cuda import Cuda
from bnrepro.training.engines.eager import Eager
from bnrepro.training.state import Replica, State

SMALL = InceptionConfig(norm="bn", activation="relu", multiplier=0.0625)
KEY = torch.tensor([3, 7])


def net(size: int = 32, classes: int = 10, **settings: Any) -> Inception:
    return Inception(replace(SMALL, **settings), size, classes).reset(0)


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"norm": "bn"}, 11_285_224),
        ({"norm": "bn", "bias": "on"}, 11_295_240),
        ({"norm": "none"}, 11_275_208),
    ],
)
def test_the_filters_of_figure_5_give_the_known_numbers_of_parameters(settings, parameters) -> None:
    with torch.device("meta"):
        model = Inception(InceptionConfig(stem="imagenet", **settings), 224, 1000)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_blocks_have_the_widths_that_their_filters_add_up_to() -> None:
    with torch.device("meta"):
        model = Inception(InceptionConfig(norm="bn"), 224, 1000)
    widths = [model.get_submodule(f"blocks.{name}").maps for name in FIGURE5]
    assert widths == [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024]  # 4c, 4d, 4e: not as printed


@pytest.mark.parametrize(("stem", "size", "last"), [("imagenet", 224, 7), ("small", 64, 4)])
def test_the_last_block_sees_the_locations_of_the_paper_or_of_a_gentler_stem(stem, size, last) -> None:
    logits, taps = net(size, 7, stem=stem).eval()(torch.zeros(1, 3, size, size))
    assert logits.shape == (1, 7)
    assert taps["5b"].shape[2:] == (last, last)
    assert list(taps) == ["conv1", "conv2", *FIGURE5]


def test_probed_weights_belong_to_the_taps() -> None:
    model = net(separable=True)
    taps = model.eval()(torch.zeros(1, 3, 32, 32))[1]
    assert {k: len(w) for k, w in model.probed().items()} == {k: t.shape[1] for k, t in taps.items()}


def test_every_switch_leaves_a_net_that_trains() -> None:
    switches: list[dict[str, Any]] = [{"lrn": True}, {"separable": True}, {"per_activation": True}]
    switches.append({"activation": "sigmoid"})
    for settings in switches:
        model = net(**settings).train()
        model(torch.rand(2, 3, 32, 32))[0].logsumexp(1).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()), settings


def test_a_seed_gives_every_arm_the_same_kernels() -> None:
    plain = {k: v for k, v in net(norm="none").named_parameters() if k.endswith("weight")}
    normalized = dict(net(norm="bn").named_parameters())
    assert all(torch.equal(v, normalized[k]) for k, v in plain.items())


def test_local_response_normalization_is_torchs() -> None:
    x = torch.randn(2, 12, 5, 5, dtype=torch.float64) * 30
    assert (local_response_norm(x) - nn.LocalResponseNorm(5)(x)).abs().max() < 1e-10


def test_in_the_last_block_statistics_may_be_taken_for_every_location() -> None:
    model = net(per_activation=True).train()
    per_location = [m.num_features for m in normalization_layers(model)][-7:]
    maps = [24, 12, 20, 12, 16, 16, 8]  # of 352, 192, 320, 192, 224, 224, 128, a sixteenth, in fours
    assert per_location == [n * 2 * 2 for n in maps]


def test_native_batch_normalization_is_torchs_kernel_and_the_same_function() -> None:
    ours, native = net().train(), net(native=True).train()
    assert {type(m) for m in normalization_layers(native)} == {nn.BatchNorm2d}
    x = torch.rand(8, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(ours.double()(x)[0], native.double()(x)[0], atol=1e-8, rtol=1e-8)


def test_dropout_before_the_classifier_follows_its_key() -> None:
    model, x = net(dropout=0.4).train(), torch.rand(4, 3, 32, 32)
    one, again, other = (model(x, key)[0] for key in (KEY, KEY, KEY + 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def run_config() -> Config:
    return Config(
        seeds=2,
        data=DataConfig(name="shapes", batch_size=4, crop=2, flip=True, distort=0.2),
        model=replace(SMALL, dropout=0.1, lrn=True),
        optim=OptimConfig(lr=0.001, momentum=0.9, weight_decay=1e-4),
        train=TrainConfig(steps=6, device="cpu"),
        eval=EvalConfig(every=3),
    )


def fresh(images: Dataset) -> State:
    cfg = run_config()
    return State([Replica(cfg, seed) for seed in cfg.seeds], images)


def advanced(engine: Engine, state: State, start: int, stop: int) -> list[dict[str, float]]:
    losses = engine.advance(state, start, stop)
    state.step = stop
    return [values for values, _ in Measurer(engine, state, engine.data)(state, losses)]


@pytest.fixture(scope="module")
def images() -> Dataset:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=draw)
    labels = torch.arange(40) % 10
    parts = (pixels[:30], labels[:30], pixels[30:], labels[30:])
    return Dataset(*parts, scale=2 / 255, split="test", offset=-1.0, augment=run_config().data)


def test_every_engine_trains_the_same_nets(images: Dataset, forks: None) -> None:
    one, two, stacked = (fresh(images) for _ in range(3))
    engines = [Eager(one, images, 1), Eager(two, images, 2), Cuda(stacked, images, compiled=False)]
    measured = [
        advanced(engine, state, 0, 1) for engine, state in zip(engines, (one, two, stacked), strict=True)
    ]
    for engine in engines:
        engine.close()
    for name, value in one.params.items():
        assert torch.equal(two.params[name], value), name
        torch.testing.assert_close(stacked.params[name], value, atol=1e-5, rtol=1e-4)
    assert measured[0] == measured[1]
    for mine, values in zip(measured[2], measured[0], strict=True):
        assert mine == pytest.approx(values, rel=2e-3, abs=1e-3)
    assert {"test/accuracy", "test/top5", "probe/conv1/typical/p50", "probe/5b/all/p85"} <= set(
        measured[0][0]
    )


def test_a_seed_of_images_trains_alone_as_it_does_beside_another(
    images: Dataset, forks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, both = torch.get_num_threads(), fresh(images)
    alone = State(both.replicas[:1], images)
    try:
        for state in (both, alone):
            engine = Eager(state, images, 2)
            engine.advance(state, 0, 2)
            engine.close()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(both.params[name][0], value[0]) for name, value in alone.params.items())


@pytest.mark.parametrize(("said", "used"), [("1", 1), ("2", 2), ("9", 3), (None, 1)])
def test_one_net_has_a_thread_or_as_many_as_omp_num_threads_says(
    images: Dataset, monkeypatch: pytest.MonkeyPatch, said: str | None, used: int
) -> None:
    before, cfg = torch.get_num_threads(), run_config()
    one = State([Replica(cfg, 0)], images)
    monkeypatch.setattr(machine, "cores", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    try:
        engine = build_engine(one, images)
        engine.close()
        assert torch.get_num_threads() == engine.threads == used
        assert ("OMP_NUM_THREADS=3" in engine.note) == (said is None)
    finally:
        torch.set_num_threads(before)


def test_a_run_resumed_from_its_state_goes_on_as_if_it_had_never_stopped(images: Dataset) -> None:
    whole, first, second = (fresh(images) for _ in range(3))
    engine = Eager(whole, images)
    for state in (whole, first):
        engine.advance(state, 0, 1)
        state.step = 1
    for s in range(len(first)):
        second.restore(s, first.saved(s))
    assert second.step == 1
    assert advanced(engine, whole, 1, 2) == advanced(engine, second, 1, 2)
    assert all(torch.equal(whole.params[k], second.params[k]) for k in whole.params)


def test_torchs_kernel_is_refused_where_statistics_are_shared_by_processes() -> None:
    with pytest.raises(ConfigError, match=r"model.sync=true: torch's kernel"):
        Config(
            data=DataConfig(name="shapes"),
            model=replace(SMALL, sync=True, native=True),
            train=TrainConfig(processes=2),
        )


@pytest.mark.parametrize(
    ("data", "model", "says"),
    [
        ({"name": "mnist"}, InceptionConfig(), "model=inception needs data=tiny_imagenet"),
        ({"name": "shapes"}, MLPConfig(), "model=mlp needs data=mnist"),
        (
            {"name": "shapes", "size": 16},
            InceptionConfig(),
            "data.size=16: model.stem=small needs at least 32",
        ),
    ],
)
def test_data_that_do_not_fit_the_net_are_refused(data: dict, model: ModelConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Config(data=DataConfig(**data), model=model)


def test_a_shift_beyond_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.crop=32: a shift of at most half of data.size=32"):
        DataConfig(name="shapes", num_classes=2, size=32, batch_size=4, crop=32)
    with pytest.raises(DataError, match=r"data.crop=64: must be below the images' 64 pixels"):
        load(DataConfig(name="shapes", num_classes=2, batch_size=4, crop=64))


def test_varied_images_stay_images_and_follow_their_key(images: Dataset) -> None:
    index = torch.arange(8)
    one, again, other = (images.batch(index, key) for key in (KEY, KEY, KEY + 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == (8, 3, 32, 32) and one.min() >= -1 and one.max() <= 1
    still = replace(images, augment=None).batch(index, KEY)
    assert torch.equal(still, images.inputs(images.images[:8]))


def test_in_shards_the_same_examples_always_meet() -> None:
    first, second = (batch_indices(0, 64, 8, 8 * epoch, 8 * epoch + 8, "shards") for epoch in range(2))
    together = [{frozenset(batch.tolist()) for batch in batches} for batches in (first, second)]
    assert together[0] == together[1] and not torch.equal(first, second)
    assert sorted(first.flatten().tolist()) == list(range(64))
