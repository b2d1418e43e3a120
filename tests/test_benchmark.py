"""The speed benchmark's rivals compute what torch computes; its ratios and its environment are right."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed

from benchmarks import IMAGE_ROWS, OPENBLAS_ROWS, ROWS, numpy_page  # noqa: E402
from benchmarks.task import BATCH, RATE, network  # noqa: E402

STEPS = 5
# Run, not imported: nothing imports scripts.
benchmark = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "benchmark.py")))


@pytest.fixture
def batches() -> tuple[Tensor, Tensor, Tensor]:
    """images (N, 784) uint8, labels (N,), and which of them make up each of the steps' batches."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (400, 784), dtype=torch.uint8, generator=draw)
    index = torch.stack([torch.randperm(400, generator=draw)[:BATCH] for _ in range(STEPS)])
    return images, torch.randint(0, 10, (400,), generator=draw), index


def trained(net: nn.Sequential, batches) -> list[float]:
    """The losses of torch's own steps; moves the weights of net."""
    images, labels, index = batches
    losses = []
    for rows in index:
        loss = nn.functional.cross_entropy(net(images[rows].float() / 255), labels[rows])
        grads = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():  # torch.optim.SGD does the same, after seconds of imports
            for p, g in zip(net.parameters(), grads, strict=True):
                p -= RATE * g
        losses.append(loss.item())
    return losses


def initial(bn: bool) -> nn.Sequential:
    torch.manual_seed(1)
    return network(bn)


def linears(net: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in net if isinstance(layer, nn.Linear)]


def array(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().numpy().copy()


def assert_close(found, expected) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)  # float32, sums in another order


def test_the_numpy_page_takes_the_steps_that_torch_takes(batches) -> None:
    net, (images, labels, index) = initial(bn=False), batches
    layers = [(array(linear.weight.T), array(linear.bias)) for linear in linears(net)]
    x = images.numpy() * np.float32(1 / 255)
    losses = [numpy_page.step(layers, x[rows], labels.numpy()[rows]) for rows in index.numpy()]
    assert_close(losses, trained(net, batches))
    for (weight, bias), linear in zip(layers, linears(net), strict=True):
        assert weight.dtype == bias.dtype == np.float32
        assert_close(weight, array(linear.weight.T))
        assert_close(bias, array(linear.bias))


@pytest.mark.parametrize("bn", [False, True])
def test_the_loop_in_jax_takes_the_steps_that_torch_takes(batches, bn: bool) -> None:
    jax = pytest.importorskip("jax")
    from benchmarks import jax_page

    net, (images, labels, index) = initial(bn), batches
    norms = [layer for layer in net if isinstance(layer, nn.BatchNorm1d)]

    def weights() -> list[dict[str, np.ndarray]]:
        layers = []
        for i, linear in enumerate(linears(net)):
            shift = norms[i].bias if i < len(norms) else linear.bias
            layers.append({"w": array(linear.weight.T), "b": array(shift)})
            if i < len(norms):
                layers[-1]["gamma"] = array(norms[i].weight)
        return layers

    def running() -> list[dict[str, np.ndarray]]:
        return [{"mean": array(norm.running_mean), "var": array(norm.running_var)} for norm in norms]

    arrays = (t.numpy() for t in (index, images, labels))
    (found, averages), losses = jax.jit(jax_page.steps_of)((weights(), running()), *arrays)
    assert_close(losses, trained(net, batches))
    for ours, theirs in ((found, weights()), (averages, running())):
        assert len(ours) == len(theirs)
        for layer, expected in zip(ours, theirs, strict=True):
            assert layer.keys() == expected.keys()
            for name in expected:
                assert_close(layer[name], expected[name])


def test_ratios_are_taken_within_a_round_and_between_like_rows() -> None:
    measured = []
    for speed in (1.0, 2.0):  # in the second round the machine is twice as fast
        rows = [
            {"row": "limit", "replica_steps_per_s": 1000 * speed, "limit_gflops": 26 * speed},
            {"row": "dataloader", "replica_steps_per_s": 10 * speed},
            {"row": "ours-10", "replica_steps_per_s": 500 * speed},
            {"row": "measuring", "percent": 7.0},
        ]
        measured += benchmark.with_ratios([row | {"note": f"at {speed:g}"} for row in rows])
    table = benchmark.summary(measured).set_index("row")
    assert list(table.index) == ["limit", "dataloader", "ours-10", "measuring"] and (table["n"] == 2).all()
    assert table.loc["ours-10", "replica_steps_per_s"] == 750
    assert (
        table.loc["ours-10", "ratio_to_dataloader"] == 50 and table.loc["ours-10", "fraction_of_limit"] == 0.5
    )
    assert table.loc["ours-10", "fraction_of_limit_std"] == 0
    assert table.loc["limit", "limit_gflops"] == 39 and table.loc["limit", "fraction_of_limit"] == 1
    assert table.loc["measuring"].drop(["n", "percent", "percent_std", "note"]).isna().all()
    assert table.loc["ours-10", "note"] == "at 2"


def test_images_are_compared_with_images_of_their_size() -> None:
    rates = {
        "images-limit": 1000.0,
        "images-reference": 100.0,
        "images-ours-2": 300.0,
        "images-reference-32px": 400.0,
        "images-ours-2-32px": 800.0,
        "decoding-2": 5000.0,
    }
    rows = benchmark.with_ratios([{"row": row, "images_per_s": rate} for row, rate in rates.items()])
    of = {row["row"]: row for row in rows}
    assert of["images-ours-2"]["ratio_to_reference"] == 3 and of["images-ours-2"]["fraction_of_limit"] == 0.3
    assert of["images-ours-2-32px"]["ratio_to_reference"] == 2
    assert "fraction_of_limit" not in of["images-ours-2-32px"]  # the limit counts the FLOP of 64 x 64
    assert of["decoding-2"].keys() == {"row", "images_per_s"}


@pytest.mark.parametrize("words", [["--out", "table.csv"], ["--minutes", "-1"]])
def test_a_table_that_cannot_be_written_is_refused_before_anything_is_measured(
    words, monkeypatch, tmp_path, capsys
) -> None:
    (tmp_path / "table.csv").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
    monkeypatch.setitem(benchmark.main.__globals__, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match="2"):
        benchmark.main()
    assert words[0] in capsys.readouterr().err.splitlines()[-1]


def test_without_limit_and_dataloader_there_are_rates_and_no_ratios() -> None:
    (row,) = benchmark.with_ratios([{"row": "eager", "replica_steps_per_s": 5.0}])
    assert row == {"row": "eager", "replica_steps_per_s": 5.0}


def test_threads_are_no_rows_inheritance_and_blas_chooses_its_kernel_where_numpy_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*benchmark.THREADS, *benchmark.KERNEL, "KEPT"):
        monkeypatch.setenv(name, "1")
    for row in ROWS | IMAGE_ROWS:
        given = benchmark.environment(row)
        assert given["KEPT"] == "1" and not set(given) & set(benchmark.THREADS), row
        assert set(given).isdisjoint(benchmark.KERNEL) == (row in OPENBLAS_ROWS), row
