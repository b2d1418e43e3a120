"""load: the network of a finished run is the one that its table speaks of."""

from pathlib import Path

import pytest
import torch

import bnrepro
from bnrepro.config import ConfigError
from bnrepro.data import load as load_data
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", [None, 1])
def test_a_loaded_network_has_the_accuracy_and_the_loss_of_the_table(config, quiet, seed):
    cfg = config("variant=bn", "eval.probe=false", "seeds=2")
    run(cfg, quiet)
    folder = RunFolder.of(cfg)
    net, data = bnrepro.load(folder.path, seed), load_data(cfg.data)
    assert not net.training
    with torch.no_grad():
        logits, taps = net(data.inputs(data.eval_images))
    assert list(taps) == ["hidden1", "hidden2", "hidden3"]
    loss = torch.nn.functional.cross_entropy(logits, data.eval_labels).item()
    accuracy = (logits.argmax(1) == data.eval_labels).double().mean().item()
    last = {row.name: row.value for row in folder.rows() if row.seed == (seed or 0)}
    assert accuracy == pytest.approx(last["test/accuracy"]) and loss == pytest.approx(
        last["test/loss"], rel=1e-5
    )


def test_the_script_of_the_docs_runs_as_it_is_written(monkeypatch, tmp_path):
    text = (ROOT / "docs/usage.md").read_text().partition("## From a script")[2]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(text.partition("```python")[2].partition("```")[0], names)
    last = {row.name: row.value for row in names["folder"].rows() if row.seed == 1}
    assert names["accuracy"] == pytest.approx(last["test/accuracy"])


def test_a_folder_without_a_network_and_a_seed_that_was_not_trained_are_refused(config, quiet, tmp_path):
    with pytest.raises(ConfigError, match=r"config.yaml is not there"):
        bnrepro.load(tmp_path)
    cfg = config("variant=bn", "eval.probe=false", "seeds=2")
    run(cfg, quiet)
    with pytest.raises(ConfigError, match=r"no seed 7; it has 0, 1"):
        bnrepro.load(str(RunFolder.of(cfg)), seed=7)
    with pytest.raises(ConfigError, match=r"seed='0': a seed is a whole number"):
        bnrepro.load(RunFolder.of(cfg).path, seed="0")  # pyright: ignore[reportArgumentType]
    path = RunFolder.of(cfg).path
    with pytest.raises(ConfigError, match=rf"not there \(runs are in folders below: {path.name}\)"):
        bnrepro.load(path.parent)
    with pytest.raises(ConfigError, match=rf"not there \(did you mean {path.name}\?\)"):
        bnrepro.load(f"{path}x")


def test_a_network_whose_layers_were_changed_since_is_refused_in_one_line(config, quiet, monkeypatch):
    cfg = config("variant=bn", "eval.probe=false", "seeds=1")
    run(cfg, quiet)
    monkeypatch.setattr("bnrepro.models.mlp.normalization", lambda cfg, width: torch.nn.LayerNorm(width))
    with pytest.raises(
        ConfigError, match=r"not of the net that config.yaml describes now: .*norms"
    ) as caught:
        bnrepro.load(RunFolder.of(cfg).path)
    assert "\n" not in str(caught.value)
