"""Provenance is published: a machine's folders are not."""

import pytest

from bnrepro.runs.provenance import provenance


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.root=/scratch/me/mnist", "data.root=…/mnist"),
        ("data.root=~/mnist", "data.root=…/mnist"),
        ("data.root=../mine/mnist", "data.root=…/mnist"),
        ("data.root=mnist", "data.root=mnist"),
        ("output=/scratch/me/runs", "output=…/runs"),
        ("experiment=fig1_mnist", "experiment=fig1_mnist"),
        ('data.root="/scratch/me/mnist"', "data.root=…/mnist"),
        ("--out=/scratch/me/a.csv", "--out=…/a.csv"),
        ("/scratch/me/tune", "…/tune"),
        ("optim.lr=log:0.01..10", "optim.lr=log:0.01..10"),
    ],
)
def test_a_command_keeps_its_settings_and_hides_whose_folders_they_name(given: str, said: str):
    assert said in provenance(["python", "scripts/train.py", given], "cpu")["command"]
