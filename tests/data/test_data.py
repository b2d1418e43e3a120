"""Data: fixed splits, checked files, an order per seed."""

import hashlib
import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnrepro.config import Config, DataConfig, TrainConfig
from bnrepro.data import DataError, batch_indices, load
from bnrepro.data import mnist as module
from bnrepro.measure.evaluate import evaluate_train
from bnrepro.training.engines.eager import Eager
from bnrepro.training.engines.xla import Xla
from bnrepro.training.state import Replica, State


def test_the_embedded_digits_split_into_4000_and_1000_with_equal_classes():
    data = load(DataConfig())
    assert data.images.shape == (4000, 784) and data.images.dtype == torch.uint8
    assert data.labels.bincount().tolist() == [400] * 10
    assert data.eval_labels.bincount().tolist() == [100] * 10
    assert set(data.images.unique().tolist()) == {0, 1} and data.scale == 1.0 and data.split == "test"


def test_without_binarization_pixels_keep_their_256_levels():
    data = load(DataConfig(binarize=False))
    assert data.images.max() == 255 and data.scale == 1 / 255


def test_a_holdout_is_cut_from_the_training_set_and_replaces_the_test_set():
    whole, cut = load(DataConfig()), load(DataConfig(holdout=500))
    assert len(cut.labels) == 3500 and len(cut.eval_labels) == 500 and cut.split == "val"

    def rows(images):
        return sorted(map(bytes, images.numpy()))

    assert rows(torch.cat([cut.images, cut.eval_images])) == rows(whole.images)


def test_every_seed_sees_a_subset_of_its_own_and_fewer_are_part_of_more():
    few, more = load(DataConfig(examples=60)), load(DataConfig(examples=100))

    def seen(data, seed):
        return set(data.seen(seed, torch.arange(data.examples)).tolist())

    assert (few.examples, len(seen(few, 1))) == (60, 60)
    assert seen(few, 1) < seen(more, 1)
    assert len(seen(more, 1) & seen(more, 2)) < 20  # 2.5 of 100 by chance
    whole = load(DataConfig())
    assert seen(whole, 1) == set(range(4000))


@pytest.mark.parametrize("engine", [Eager, Xla])
def test_a_net_is_trained_and_measured_on_its_own_subset_only(engine):
    data = load(DataConfig(examples=60, batch_size=10))
    cfg = Config(seeds=[0, 1], data=DataConfig(examples=60, batch_size=10), train=TrainConfig(steps=6))
    state = State([Replica(cfg, seed) for seed in cfg.seeds], data)
    made = engine(state, data)
    for s in (0, 1):
        index = made.batches(s, 0, 6)[0]
        assert sorted(index.flatten().tolist()) == sorted(data.seen(s, torch.arange(60)).tolist())
    own = data.seen(1, torch.arange(60))
    spoiled = torch.zeros_like(data.labels).index_copy(0, own, data.labels[own])
    before = evaluate_train(made, state, data)
    made.close()
    other = engine(state, replace(data, labels=spoiled))
    after = evaluate_train(other, state, other.data)
    other.close()
    assert after[1] == before[1]
    assert after[0] != before[0]


@pytest.mark.parametrize(
    "settings", [{"batch_size": 4001}, {"holdout": 4000}, {"holdout": 3990, "batch_size": 11}]
)
def test_asking_for_more_examples_than_there_are_is_refused(settings):
    with pytest.raises(DataError, match="training images"):
        load(DataConfig(**settings))


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Four IDX files in torchvision's layout with 20 + 10 random images, and their checksums."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 20), ("t10k", 10)):
        images = torch.randint(0, 256, (n * 784,), dtype=torch.uint8).numpy().tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, n, 28, 28) + images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 0x801, n) + bytes(i % 10 for i in range(n))
        )
    sums = {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in module.FILES}
    monkeypatch.setattr(module, "FILES", sums)
    return tmp_path


def test_torchvisions_files_are_read_as_they_are(small_mnist):
    data = load(DataConfig(name="mnist", root=str(small_mnist), batch_size=5, binarize=False))
    assert data.images.shape == (20, 784) and data.eval_images.shape == (10, 784)
    assert data.labels.tolist() == [i % 10 for i in range(20)]
    stored = (small_mnist / "MNIST/raw/train-images-idx3-ubyte").read_bytes()[16:]
    assert data.images.numpy().tobytes() == stored


@pytest.mark.parametrize("damage", ["truncated", "altered"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_truncated_or_altered_file_is_refused_by_name(small_mnist, name, damage):
    path = small_mnist / "MNIST" / "raw" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content[:-3] if damage == "truncated" else content)
    with pytest.raises(DataError, match=name):
        load(DataConfig(name="mnist", root=str(small_mnist), batch_size=5))


def test_missing_files_and_no_network_are_one_line_and_leave_nothing_behind(tmp_path, monkeypatch):
    import torchvision

    def offline(root, download):
        (tmp_path / "new" / "MNIST" / "raw").mkdir(parents=True)
        raise RuntimeError("Error downloading\nTried https://...")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    with pytest.raises(DataError) as caught:
        load(DataConfig(name="mnist", root=str(tmp_path / "new")))
    message = str(caught.value)
    assert "\n" not in message and "data=mnist5k" in message and "train-images-idx3-ubyte" in message
    assert str(tmp_path / "new" / "MNIST" / "raw") in message and not (tmp_path / "new").exists()


@given(st.integers(0, 5), st.integers(5, 40), st.integers(1, 5), st.integers(0, 60), st.integers(1, 30))
def test_batches_do_not_depend_on_where_one_starts_to_ask(seed, examples, batch, start, count):
    asked = batch_indices(seed, examples, batch, start, start + count)
    assert torch.equal(asked, batch_indices(seed, examples, batch, 0, start + count)[start:])


def test_an_epoch_visits_each_example_once_and_seeds_and_epochs_differ():
    order = batch_indices(0, 60, 10, 0, 12)
    first, second = order[:6].flatten(), order[6:].flatten()
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(60))
    assert not torch.equal(first, second)
    assert not torch.equal(first, batch_indices(1, 60, 10, 0, 6).flatten())
