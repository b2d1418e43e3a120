"""Images decoded on demand: as if they were a tensor."""

import functools
import logging
import multiprocessing
import os

import pytest
import torch
from pictures import data_config, loaded, picture, tiny_files, two_classes, write_folder, write_zip

from bnrepro.data import decode
from bnrepro.data.dataset import DataError


@pytest.fixture
def settings(tmp_path):
    return functools.partial(data_config, tmp_path)


def test_a_stream_gives_the_cached_pixels_for_every_kind_of_index_also_in_a_forked_process(
    tmp_path, settings
):
    write_zip(tmp_path / "data" / "tiny-imagenet-200.zip", tiny_files())
    whole = loaded(settings("tiny_imagenet", size=12))
    stream = loaded(settings("tiny_imagenet", size=12, decode="stream"))
    images = stream.images
    assert (
        images.shape == whole.images.shape and len(images) == 12 and torch.equal(stream.labels, whole.labels)
    )
    for index in (torch.tensor([5, 0, 5]), torch.tensor([[1], [2]]), slice(-3, None), whole.labels == 1):
        assert torch.equal(images[index], whole.images[index])
    some = torch.tensor([7, 3])
    assert torch.equal(images.select(some)[:], whole.images[some])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert torch.equal(pool.apply(images.__getitem__, (some,)), whole.images[some])


def test_a_stream_needs_a_size_and_names_a_corrupt_image(tmp_path, settings, caplog):
    write_folder(tmp_path / "data", two_classes() | {"train/b/0.jpg": picture(1)[:200]})
    with pytest.raises(DataError, match=r"needs data\.size"):
        loaded(settings("imagefolder", decode="stream"))
    with pytest.raises(DataError, match=r"train/b/0\.jpg cannot be decoded"):
        loaded(settings("imagefolder", decode="stream", size=8)).images[:]
    decode.warn_once.cache_clear()
    images = loaded(settings("imagefolder", decode="stream", size=8, corrupt="skip")).images
    with caplog.at_level(logging.WARNING):
        assert images[:][2].max() == 0 and images[:][3].max() > 0
    assert len(caplog.records) == 1 and "train/b/0.jpg" in caplog.text


@pytest.mark.parametrize("how", ["stream", "cache"])
def test_a_name_of_any_bytes_is_shown_escaped(tmp_path, settings, how):
    write_folder(tmp_path / "data", two_classes())
    with open(os.fsencode(tmp_path / "data/train/a") + b"/caf\xe9.jpg", "wb") as file:
        file.write(picture(1)[:200])
    with pytest.raises(DataError, match=r"caf\\xe9\.jpg cannot be decoded") as caught:
        loaded(settings("imagefolder", decode=how, size=8)).images[:]
    assert str(caught.value).encode()
    os.mkdir(os.fsencode(tmp_path / "data/train") + b"/caf\xe9")
    with pytest.raises(DataError, match="no train images of class caf") as caught:
        loaded(settings("imagefolder", decode=how, size=8))
    assert str(caught.value).encode()
