"""Decoded images on disk: built once, whole or not at all, whoever is killed meanwhile."""

import logging
import multiprocessing
import os
import signal

import pytest
import torch
from pictures import data_config, loaded, picture, two_classes, write_folder

from bnrepro.config import DataConfig
from bnrepro.data import cache, decode
from bnrepro.data.dataset import DataError

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """An image folder of 4 + 2 images; each decoding leaves a line in the file "decoded"."""
    write_folder(tmp_path / "data", two_classes())
    plain = cache.decode

    def noted(source, size):
        with open(tmp_path / "decoded", "a") as file:
            file.write(f"{source}\n")
        return plain(source, size)

    monkeypatch.setattr(cache, "decode", noted)
    monkeypatch.setattr(cache, "CHUNK", 1)
    return data_config(tmp_path, "imagefolder", size=8)


def decoded(tmp_path):
    return (tmp_path / "decoded").read_text().count("\n")


def finished(tmp_path):
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    return folder


def test_images_are_decoded_once_and_mapped_from_then_on(tmp_path, cfg, capsys):
    first, second = loaded(cfg), loaded(cfg)
    assert decoded(tmp_path) == 6 and torch.equal(first.images, second.images)
    assert "decoding imagefolder: 6 of 6 images" in capsys.readouterr().out
    pixels = finished(tmp_path) / "pixels.npy"
    with open("/proc/self/maps") as maps:
        assert any(str(pixels) in line for line in maps)
    before = pixels.read_bytes()
    second.images.zero_()
    assert pixels.read_bytes() == before


def test_the_cache_lies_where_the_environment_says(tmp_path, cfg, monkeypatch):
    monkeypatch.setenv("BNREPRO_CACHE", str(tmp_path / "elsewhere"))
    loaded(DataConfig(name="imagefolder", root=cfg.root, size=8))
    assert list((tmp_path / "elsewhere").glob("imagefolder-*/pixels.npy"))


@pytest.mark.parametrize("change", ["another size", "a changed file", "a new file"])
def test_other_images_are_another_cache(tmp_path, cfg, change):
    before = loaded(cfg).images
    if change == "another size":
        cfg.size = 6
    else:
        name = "0.jpg" if change == "a changed file" else "9.jpg"
        (tmp_path / "data" / "train" / "a" / name).write_bytes(picture(99))
    after = loaded(cfg).images
    assert after.shape != before.shape or not torch.equal(after, before)


@pytest.mark.parametrize("damage", ["truncated", "missing", "garbled"])
def test_a_damaged_cache_is_said_to_be_so_and_built_again(tmp_path, cfg, damage, capsys):
    whole = loaded(cfg).images.clone()
    name = "state.json" if damage == "garbled" else "pixels.npy"
    path = finished(tmp_path) / name
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-9])
    assert torch.equal(loaded(cfg).images, whole)
    assert "truncated or damaged" in capsys.readouterr().out


def test_a_corrupt_image_is_named_and_refused(tmp_path, cfg):
    (tmp_path / "data/train/b/1.jpg").write_bytes(picture(1)[:300])
    with pytest.raises(DataError, match=r"train/b/1\.jpg cannot be decoded \(Truncated File") as caught:
        loaded(cfg)
    assert "\n" not in str(caught.value) and "data.corrupt=skip" in str(caught.value)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("lost", [["train/a/0.jpg"], ["train/b/1.jpg", "val/c/3.jpg", "train/a/1.jpg"]])
def test_corrupt_images_are_left_out_on_request_with_one_warning(tmp_path, cfg, lost, caplog):
    (tmp_path / "data/classes.txt").write_text("a\nb\nc\n")
    for i, name in enumerate(("train/c/0.jpg", "val/c/3.jpg", "val/c/4.jpg")):
        write_folder(tmp_path / "data", {name: picture(i)})
    whole, cfg.corrupt = loaded(cfg), "skip"
    names = [f"train/{name}.jpg" for name in ("a/0", "a/1", "b/0", "b/1", "c/0")]
    kept = [i for i, name in enumerate(names) if name not in lost]
    for name in lost:
        (tmp_path / "data" / name).write_bytes(b"not an image")
    decode.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # built, then read
            part = loaded(cfg)
            assert torch.equal(part.images, whole.images[kept]) and torch.equal(
                part.labels, whole.labels[kept]
            )
            assert torch.equal(part.val_images[-1], whole.val_images[-1])
            assert len(part.val_labels) == len(part.val_images) == 4 - ("val/c/3.jpg" in lost)
    assert len(caplog.records) == 1 and all(name in caplog.text for name in lost)


def test_a_class_without_a_readable_image_is_refused(tmp_path, cfg):
    cfg.corrupt = "skip"
    (tmp_path / "data/val/b/2.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no image of class b"):
        loaded(cfg)


def test_a_full_disk_and_a_folder_that_cannot_be_written_are_refused(tmp_path, cfg, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(DataError, match=r"take 0\.00 GB, .* has 0\.00 GB"):
        loaded(cfg)
    assert not list((tmp_path / "cache").glob("*.part")) and not (tmp_path / "decoded").exists()
    (tmp_path / "file").write_text("")
    cfg.cache = str(tmp_path / "file" / "cache")
    with pytest.raises(DataError, match=r"cannot write the cache .*: Not a directory; set data\.cache"):
        loaded(cfg)


class Usage:
    free = 100


def kill_after(images):
    """In the forked builder: make it kill itself, as kill -9 would, when so many images are done."""

    def update(done, remark):
        if done == images:
            os.kill(os.getpid(), signal.SIGKILL)

    return update


@pytest.mark.parametrize("images", [1, 4, 6])
def test_a_killed_build_is_taken_up_where_it_was(tmp_path, cfg, monkeypatch, images):
    monkeypatch.setattr(cache, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "counted", lambda *_: Bar(kill_after(images)))
        builder = FORK.Process(target=loaded, args=(cfg,))
        builder.start()
        builder.join()
    assert builder.exitcode == -signal.SIGKILL and not list((tmp_path / "cache").glob("*[0-9a-f]/state.json"))
    before = decoded(tmp_path)
    resumed = loaded(cfg)
    assert decoded(tmp_path) - before == 6 - images
    cfg.cache = str(tmp_path / "fresh")
    assert torch.equal(loaded(cfg).images, resumed.images)


def killing(function):
    def killed(*arguments):
        function(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    return killed


@pytest.mark.parametrize("moment", ["when the gaps are closed", "before it is named", "before it is counted"])
def test_a_build_with_gaps_killed_at_its_end_is_none(tmp_path, cfg, monkeypatch, moment):
    monkeypatch.setattr(cache, "SECONDS_BETWEEN_SAVES", 0.0)
    cfg.corrupt = "skip"
    (tmp_path / "data/train/a/0.jpg").write_bytes(b"not an image")
    with monkeypatch.context() as patch:
        match moment:
            case "when the gaps are closed":
                patch.setattr(cache, "_close_gaps", killing(cache._close_gaps))
            case "before it is named":
                patch.setattr(cache.Path, "rename", killing(lambda *_: None))
            case _:
                patch.setattr(cache.Path, "rename", killing(cache.Path.rename))
        builder = FORK.Process(target=loaded, args=(cfg,))
        builder.start()
        builder.join()
    assert builder.exitcode == -signal.SIGKILL
    resumed, cfg.cache = loaded(cfg), str(tmp_path / "fresh")
    assert torch.equal(loaded(cfg).images, resumed.images) and len(resumed.images) == 3


class Bar:
    def __init__(self, update):
        self.update = update

    def __enter__(self):
        return self.update

    def __exit__(self, *_):
        pass


def test_two_processes_build_one_cache_once(tmp_path, cfg):
    builders = [FORK.Process(target=loaded, args=(cfg,)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0] and decoded(tmp_path) == 6


def test_a_killed_worker_is_one_line_and_what_it_had_done_is_kept(tmp_path, cfg, monkeypatch):
    def killed(source, size):
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "decode", killed)
        with pytest.raises(DataError, match="start again to go on"):
            loaded(cfg)
    assert len(loaded(cfg).images) == 4
