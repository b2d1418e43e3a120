"""Colour images: which there are, in which order, how they become pixels, what is refused."""

import functools
import io
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pictures import WNIDS, data_config, loaded, picture, tiny_files, two_classes, write_folder, write_zip
from PIL import Image

from bnrepro.config import Config, DataConfig, EvalConfig, InceptionConfig
from bnrepro.data import listing, load
from bnrepro.data.dataset import DataError
from bnrepro.data.load import _class_by_class
from bnrepro.data.shapes import KINDS, PER_CLASS
from bnrepro.runs.run import data_of


@pytest.fixture
def settings(tmp_path):
    return functools.partial(data_config, tmp_path)


def equal(one, other):
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_tiny_imagenet_is_the_same_from_an_archive_two_archives_or_a_folder(tmp_path, settings):
    files = tiny_files()
    write_zip(tmp_path / "one" / "tiny-imagenet-200.zip", files)
    write_folder(tmp_path / "folder" / "tiny-imagenet-200", files)
    write_zip(tmp_path / "two" / "tiny-imagenet" / "tiny-imagenet-classes-a.zip", tiny_files(WNIDS[:1]))
    write_zip(
        tmp_path / "two" / "tiny-imagenet" / "tiny-imagenet-classes-b.zip", tiny_files(WNIDS[1:], first=1)
    )
    one, folder, two = (
        loaded(settings("tiny_imagenet", root=str(tmp_path / r))) for r in ("one", "folder", "two")
    )
    assert equal(one, folder) and equal(one, two)
    assert one.images.shape == (12, 16, 16, 3) and one.val_images.shape == (6, 16, 16, 3)
    assert one.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and one.labels.dtype == torch.int64
    assert one.val_labels.tolist() == [0, 0, 1, 1, 2, 2] and one.classes == 3
    image = Image.open(io.BytesIO(files["train/n01/images/n01_2.JPEG"]))  # the second class of wnids.txt
    assert one.images[6].numpy().tobytes() == image.convert("RGB").tobytes()


def test_num_classes_takes_the_first_of_the_list(tmp_path, settings):
    write_zip(tmp_path / "data" / "tiny-imagenet-200.zip", tiny_files())
    cfg = settings("tiny_imagenet", num_classes=2)
    assert listing.tiny_imagenet(cfg).classes == WNIDS[:2]
    assert loaded(cfg).labels.tolist() == [0] * 4 + [1] * 4


def test_a_class_list_selects_and_orders_the_folders(tmp_path, settings):
    write_folder(tmp_path / "data", two_classes() | {"train/c/0.jpg": b"", "classes.txt": b"b\na\n"})
    assert listing.imagefolder(settings("imagefolder")).classes == ["b", "a"]


def hidden_folder(root):
    write_folder(
        root, {"train/.ipynb_checkpoints/0.jpg": picture(0), "val/.ipynb_checkpoints/0.jpg": picture(0)}
    )


def hidden_files(root):
    write_folder(root, {"train/a/._0.jpg": b"", "train/a/.ipynb_checkpoints/0-checkpoint.jpg": picture(0)})


def link_to_itself(root):
    (root / "train/a/loop").symlink_to(".")


def link_to_all_classes(root):
    (root / "train/a/up").symlink_to("..")


def two_links_to_one_folder(root):
    for name in ("one", "two"):
        (root / f"train/a/{name}").symlink_to("../../val")
    for name in ("train/a/0.jpg", "train/a/1.jpg"):
        (root / name).unlink()


def pipe(root):
    os.mkfifo(root / "train/a/2.jpg")


@pytest.mark.parametrize(
    "addition",
    [hidden_folder, hidden_files, link_to_itself, link_to_all_classes, two_links_to_one_folder, pipe],
)
def test_each_image_of_a_class_counts_once_and_nothing_else_does(tmp_path, settings, addition):
    addition(write_folder(tmp_path / "data", two_classes()))
    found = listing.imagefolder(settings("imagefolder"))
    assert found.classes == ["a", "b"] and [label for _, label in found.train] == [0, 0, 1, 1]


def test_a_link_to_an_image_that_is_gone_is_not_left_out_in_silence(tmp_path, settings):
    write_folder(tmp_path / "data", two_classes())
    (tmp_path / "data/train/a/2.jpg").symlink_to("gone")
    with pytest.raises(DataError, match=r"train/a/2\.jpg cannot be read"):
        loaded(settings("imagefolder"))


@pytest.mark.parametrize("images", ["", "images/"])
def test_tiny_imagenet_whose_validation_images_somebody_sorted_by_class_is_the_same(
    tmp_path, settings, images
):
    write_folder(tmp_path / "data", tiny_files())
    whole = loaded(settings("tiny_imagenet"))
    place = annotations = tmp_path / "data/val/val_annotations.txt"
    for line in annotations.read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        place = tmp_path / f"data/val/{wnid}/{images}{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/val/images" / name).rename(place)
    assert equal(loaded(settings("tiny_imagenet")), whole)
    place.rename(tmp_path / "data/val/images" / place.name)  # one of them is not sorted
    with pytest.raises(DataError, match="which is not in val/images"):
        loaded(settings("tiny_imagenet"))


def test_hidden_files_beside_tiny_imagenets_images_are_no_images(tmp_path, settings):
    write_folder(tmp_path / "data", tiny_files() | {"train/n01/images/._n01_0.JPEG": b""})
    assert len(listing.tiny_imagenet(settings("tiny_imagenet")).train) == 12


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("LA", "PNG")]
)
def test_images_of_every_kind_become_rgb(tmp_path, settings, mode, kind):
    write_folder(tmp_path / "data", two_classes() | {"train/a/0.jpg": picture(1, mode=mode, kind=kind)})
    expected = Image.open(io.BytesIO(picture(1, mode=mode, kind=kind))).convert("RGB")
    assert np.array_equal(loaded(settings("imagefolder")).images[0].numpy(), np.asarray(expected))


def test_the_shorter_side_is_resized_and_the_centre_kept(tmp_path, settings):
    wide = np.zeros((40, 120, 3), np.uint8)
    for i in range(3):
        wide[:, 40 * i : 40 * (i + 1), i] = 255  # red, green, blue
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    write_folder(tmp_path / "data", two_classes() | {"train/a/0.jpg": file.getvalue()})
    images = loaded(settings("imagefolder", size=8)).images
    assert images.shape == (4, 8, 8, 3)
    inner = images[0, :, 1:-1].reshape(-1, 3)  # resized first: the outermost columns see their neighbours
    assert inner.unique(dim=0).tolist() == [[0, 255, 0]]


def without(name):
    return {k: v for k, v in tiny_files().items() if not k.startswith(name)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (tiny_files() | {"../outside.JPEG": b""}, r"tiny-imagenet-200.zip: member '\.\./outside.JPEG'"),
        (tiny_files() | {"train/../../x": b""}, "points outside"),
        (tiny_files() | {"..\\x": b""}, "points outside"),
        (tiny_files() | {"/etc/x": b""}, "member '/etc/x'"),
        (without("wnids.txt"), "no wnids.txt"),
        (without("val/val_annotations.txt"), "no val/val_annotations.txt"),
        (without("val/images/val_1.JPEG"), "names 'val_1.JPEG'"),
        (without("train/n01"), "no train images of class n01"),
        (tiny_files() | {"wnids.txt": b"n03 n01 n09"}, "no train images of class n09"),
        (tiny_files() | {"wnids.txt": b"n03 n01 n03"}, "class n03 is listed twice"),
        (tiny_files() | {"wnids.txt": b"n03"}, "at least 2 classes"),
        (tiny_files() | {"wnids.txt": b"\xff\xfe"}, "wnids.txt cannot be read"),
    ],
)
def test_a_bad_archive_is_refused_in_one_line(tmp_path, settings, files, message):
    write_zip(tmp_path / "data" / "tiny-imagenet-200.zip", files, base="")
    with pytest.raises(DataError, match=message) as caught:
        loaded(settings("tiny_imagenet"))
    assert "\n" not in str(caught.value) and not (tmp_path / "cache").exists()


def test_more_classes_than_there_are_and_a_truncated_archive_are_refused(tmp_path, settings):
    path = write_zip(tmp_path / "data" / "tiny-imagenet-200.zip", tiny_files())
    with pytest.raises(DataError, match=r"num_classes=4: .*tiny-imagenet-200.zip has only 3"):
        loaded(settings("tiny_imagenet", num_classes=4))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"tiny-imagenet-200.zip is not a whole zip archive"):
        loaded(settings("tiny_imagenet"))


def test_a_folder_without_val_is_measured_on_the_holdout_it_is_given(tmp_path, settings):
    files = {name: content for name, content in two_classes().items() if not name.startswith("val")}
    write_folder(tmp_path / "data", files)
    with pytest.raises(
        DataError, match=r"no folder .*val; .* or data.holdout to measure on so many training"
    ):
        loaded(settings("imagefolder"))
    for how in ("cache", "stream"):
        data = load(settings("imagefolder", holdout=1, batch_size=2, decode=how, size=16))
        assert (data.examples, len(data.eval_labels), data.split, data.test_labels) == (3, 1, "val", None)
    cfg = Config(
        data=settings("imagefolder", holdout=1, batch_size=2, size=32),
        model=InceptionConfig(),
        eval=EvalConfig(test=True),
    )
    with pytest.raises(DataError, match=r"eval.test=true: imagefolder has no val/ folder here"):
        data_of(cfg)
    cfg.eval, cfg.model.norm = EvalConfig(inference=True), "bn"
    with pytest.raises(DataError, match=r"eval.inference=true: one mini-batch of 2 needs more than 1 images"):
        data_of(cfg)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/c/0.jpg", picture(0), "no val images of class c"),
        ("val/c/0.jpg", picture(0), "no train images of class c"),
        ("train/c/notes.txt", b"", "no train images of class c"),
        ("classes.txt", b"a\nb\nc", "no train images of class c"),
        ("train/a/9.jpg", picture(0, 20, 16), r"9.jpg is 20 x 16 and not 16 x 16 pixels: set data.size"),
    ],
)
def test_a_bad_folder_is_refused_in_one_line(tmp_path, settings, name, content, message):
    write_folder(tmp_path / "data", two_classes() | {name: content})
    with pytest.raises(DataError, match=message) as caught:
        loaded(settings("imagefolder"))
    assert "\n" not in str(caught.value) and not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.parametrize("name", ["imagefolder", "imagenette", "tiny_imagenet"])
def test_without_data_and_network_one_line_says_what_to_do_and_nothing_is_left(
    tmp_path, settings, monkeypatch, name
):
    def offline(*_, **__):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "imagenette2-160.tgz").write_bytes(b"half")
        (tmp_path / "data" / "tiny-imagenet-200.zip").write_bytes(b"half")
        raise OSError("no route\nto host")

    # stand-ins, because importing torchvision takes longer than all these tests
    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(Imagenette=offline))
    monkeypatch.setitem(sys.modules, "torchvision.datasets.utils", SimpleNamespace(download_url=offline))
    with pytest.raises(DataError, match=r"data\.root or BNREPRO_DATA") as caught:
        loaded(settings(name, size=8))
    left = {"imagenette": ["tiny-imagenet-200.zip"], "tiny_imagenet": ["imagenette2-160.tgz"]}.get(name, [])
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.glob("data/*")) == left  # another's file stays


def test_imagenette_is_refused_until_it_is_whole(tmp_path, settings, monkeypatch):
    write_folder(tmp_path / "data" / "imagenette2-160", two_classes())
    with pytest.raises(DataError, match="imagenette2-160 is incomplete"):
        loaded(settings("imagenette", size=8))
    with pytest.raises(DataError, match=r"set data\.size"):
        loaded(settings("imagenette"))
    monkeypatch.setattr(listing, "IMAGENETTE_COUNTS", (4, 2))
    assert loaded(settings("imagenette", size=8)).labels.tolist() == [0, 0, 1, 1]


def test_shapes_need_no_file_and_are_the_same_every_time(settings):
    cfg = settings("shapes")
    drawn = loaded(cfg)
    assert equal(drawn, loaded(cfg))
    assert drawn.images.shape == (10 * PER_CLASS["train"], 64, 64, 3) and drawn.images.dtype == torch.uint8
    assert drawn.val_labels.bincount().tolist() == [PER_CLASS["val"]] * len(KINDS) and drawn.classes == 10
    both = torch.cat([drawn.images, drawn.val_images]).flatten(1)
    assert len(both.unique(dim=0)) == len(both)


def test_fewer_and_smaller_shapes_can_be_asked_for_but_not_more(settings):
    few = loaded(settings("shapes", num_classes=3, size=32))
    assert few.images.shape == (600, 32, 32, 3) and few.labels.max() == 2 and few.classes == 3
    with pytest.raises(DataError, match="num_classes=11"):
        loaded(settings("shapes", num_classes=11))


def test_a_holdout_of_images_has_as_many_of_each_class():
    labels = torch.tensor([2, 0, 0, 1, 2, 0, 1, 2, 1, 0])
    order = torch.tensor([9, 3, 1, 0, 4, 8, 2, 7, 6, 5])
    mixed = _class_by_class(order, labels)
    assert sorted(mixed.tolist()) == list(range(10))
    assert mixed[:3].tolist() == [9, 3, 0]  # the first of each class, in their order
    assert labels[mixed[:9]].bincount().tolist() == [3, 3, 3]


def test_a_holdout_of_loaded_images_is_balanced_and_disjoint_from_training():
    data = load(DataConfig(name="shapes", num_classes=4, size=32, holdout=40))
    assert data.eval_labels.bincount().tolist() == [10] * 4
    kept = data.labels.bincount()
    assert kept.min() == kept.max()


@pytest.mark.parametrize("how", ["cache", "stream"])
def test_moved_images_are_test_images_that_no_net_is_trained_or_tuned_on(tmp_path, settings, how):
    write_folder(tmp_path / "data", two_classes())
    plain, moved = (load(settings("imagefolder", moved=m, batch_size=1, decode=how, size=16)) for m in (0, 2))
    assert (plain.examples, moved.examples) == (4, 2)
    assert moved.split == "test" and moved.labels.bincount().tolist() == [1, 1]
    before, after = len(plain.eval_labels), moved.eval_labels
    assert after.tolist()[:before] == plain.eval_labels.tolist() and sorted(after[before:].tolist()) == [0, 1]
    pictures = [data.images[:] for data in (plain, moved)] + [moved.eval_images[before:]]
    whole, kept, new = ({image.numpy().tobytes() for image in images} for images in pictures)
    assert not kept & new and kept | new == whole


def test_the_same_images_are_moved_whatever_is_held_out():
    alone, tuned = (
        load(DataConfig(name="shapes", num_classes=4, size=32, moved=40, holdout=h)) for h in (0, 80)
    )
    assert torch.equal(alone.eval_images, tuned.test_images) and torch.equal(
        alone.eval_labels, tuned.test_labels
    )
    assert tuned.examples == alone.examples - 80 and tuned.eval_labels.bincount().tolist() == [20] * 4


def test_a_class_that_would_lose_all_its_training_images_is_refused(tmp_path, settings):
    write_folder(tmp_path / "data", two_classes() | {"train/a/more.jpg": picture(7)})
    for setting in ("moved", "holdout"):
        with pytest.raises(DataError, match=rf"data\.{setting}=4 leaves 1 of 2 classes without"):
            load(settings("imagefolder", batch_size=1, **{setting: 4}))
