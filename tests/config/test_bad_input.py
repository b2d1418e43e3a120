"""Hundreds of bad command lines: each is refused in one clear line, before anything is made or trained.

Most are generated from the schema, so that a new setting is covered on the day it is written; good neighbours of
theirs are accepted, so that a refusal says something.
"""

import math
import os
import runpy
import shutil
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bnrepro.config import Config
from bnrepro.config.refusal import kinds

ROOT = Path(__file__).parents[2]
GROUPS = ("experiment", "variant", "data", "model", "record", "debug")
MLP = ("variant=bn", "data=mnist5k")
INCEPTION = ("variant=inception", "data=shapes")

# Of each type: what no setting of it takes.
WRONG = {
    bool: ("2", "maybe", "null", "[true]", "''"),
    int: ("fast", "1.5", "nan", "null", "[1]", "-1", "100000000000000000000"),
    float: ("fast", "nan", "null", "[1]", "-1", "-inf"),
    str: ("null", "[a]", "${nope}", "???"),
}
CHOICES = ("nope", "''")  # of a text that is one of several words
FREE = ("regime", "output", "data.root", "data.cache", "record.project")  # any text, or nearly
NAMES = {"experiment", "variant", "data.name", "model.name"}  # the names of groups: set by them


def generated() -> list[str]:
    found = []
    for key, kind in kinds().items():
        if key in NAMES or key == "seeds":
            continue
        found += [f"{key}={value}" for value in WRONG[kind]]
        if kind is str and key not in FREE:
            found += [f"{key}={value}" for value in CHOICES]
    return found


BY_HAND = [
    *(
        "+new.key=1",
        "++foo=1",
        "+optim.lrr=1",
        "~data",
        "~seeds",
        "~eval",
        "+foo=1",
        "++optim.lr=3",
        "~optim.lr",
    ),
    *("variant=null", "data=null", "data=5", "model=${data}", "hydra=1", "experiment=null", "record=[a]"),
    *("output=${nope}", "output=???", "optim.lr=???", "data.root=${oc.env:HOME}", "output=${hydra:job.name}"),
    *("model.affine=2", "data.binarize=2", "record.histograms=2", "eval.probe=yes", "eval.train=1"),
    *("model.width=1000000000", "model.width=300000", "model.width=40000", "model.depth=10000"),
    *(
        "train.steps=1e20",
        "train.steps=10000000000 eval.every=1",
        "train.examples=1e30",
        "eval.points=10000001",
        "eval.first=-1",
        "train.steps=1000000000 eval.every=1000000 eval.first=1",
    ),
    *("seeds=[99999999999999999999]", "seeds=9223372036854775808", "seeds=[9223372036854775808]", "seeds=-1"),
    *("seeds=", "seeds=null", "seeds=[]", "seeds={a:1}", "seeds=1.5", "seeds=true", "seeds=3-1", "seeds='5'"),
    *("seeds=a", "seeds=[1,[2]]", "seeds=[-1]", "seeds=[0.5]", "seeds=[1,1]", "seeds=nan", "seeds=1-2-3"),
    *(
        "data.holdout=3990",
        "data.examples=10",
        "data.holdout=4000",
        "data.moved=4000",
        "data.moved=2000 data.holdout=2000",
        "data.examples=4001",
        "data.batch_size=4001",
    ),
    *(
        "hydra.sweeper.params=5",
        "hydra.sweeper.params.variant=bn",
        "hydra/sweeper=optuna",
        "hydra/launcher=nope",
    ),
    *("hydra.run.dir=x", "hydra.job.chdir=true", "hydra.mode=MULTIRUN", "hydra.output_subdir=a"),
    *("--config-name=nope", "--config-path=/", "--nope", "-x", "--experimental-rerun=a", "--multi"),
    *(
        "optim=5",
        "optim={lr:1}",
        "model={width:3}",
        "data={name:mnist}",
        "eval=null",
        "train=[]",
        "record.=1",
    ),
    *(
        "optim.lr",
        "=3",
        "foo",
        "=",
        "optim.lr==1",
        "a=b=c",
        "optim.lr=0.1 0.2",
        "optim..lr=1",
        ".lr=1",
        "optim.=1",
    ),
    *(
        "optim.lr=0.1,0.2",
        "seeds=1,2",
        "variant=bn,baseline",
        "optim.lr=range(0.1,0.4,0.1)",
        "variant=glob(bn*)",
    ),
    *(
        "optim.lr=(1",
        "optim.lr=[1",
        "optim.lr={",
        "optim.lr='",
        'optim.lr="',
        "optim.lr=choice()",
        "optim.lr=range(1)",
    ),
    *(
        "variant=../../etc/passwd",
        "experiment=/etc/passwd",
        "data=../data/mnist",
        "variant=bn/../bn",
        "model=mlp.yaml",
    ),
    *("hydra.launcher._target_=os.system", "+x._target_=os.system", "optim._target_=os.system"),
    *("optim.lr@x=3", "variant@y=bn", "experiment=fig1_mnist.yaml", "debug=nope", "record=tensorboard"),
    *("regime=a/b", "regime=..", "regime=''", "regime=.hidden", "regime='a b'", "regime=a,b"),
    "output=" + "a" * 300,
    "output=" + "a/" * 2500,
    "optim.lr=" + "9" * 5000,
    "regime=" + "x" * 5000,
    "optim.lrr=0.1",
    "model.widht=3",
    "train.memory=-1",
    "model.width=2000 train.memory=0.001",
]
INCEPTIONS = [
    *(
        "model.multiplier=1e9",
        "model.multiplier=1e-9",
        "data.size=20000",
        "data.size=31",
        "data.crop=33 data.size=64",
    ),
    *("data.crop=64", "data.crop=31 data.size=32", "model.width=3", "model.depth=1", "eval.noise=true"),
    *(
        "eval.diagnose=true",
        "model.norm=ghost",
        "model.stem=large",
        "data.num_classes=1",
        "data.batch_size=100000",
    ),
    *("train.engine=xla", "data.distort=1", "data.distort=-1", "model.init_scale=0", "data.corrupt=maybe"),
]
SWEEPS = [
    "optim.lr=range(0,1000000,1)",
    "optim.lr=range(0,1000,1) seeds=range(1,1001,1)",
    "optim.lr=range(0,1,0)",
    "optim.lr=range(1,0,1)",
    "variant=bn,nope",
    "variant=bn,inception model.width=8",
    "variant=glob(nothing*)",
    "optim.lr=0.1,fast",
    "optim.lr=0.1,-1",
    "+a=1,2",
    "hydra.sweeper.params.variant=bn",
    "hydra/sweeper=optuna",
    "hydra/launcher=nope",
    "hydra.launcher.partition=gpu",
    "experiment=fig1_quick,fig1_rates",
    "train.processes=2",
    "variant=bn eval.inference=false,true data.batch_size=2000",
    "seeds=1,0",
    "eval.probe=true,2",
    "data.batch_size=60,0",
    "output=a,???",
    "model.width=8,1000000000",
]

CASES = [
    *((*MLP, *line.split(" ")) if "'" not in line else (*MLP, line) for line in [*generated(), *BY_HAND]),
    *((*INCEPTION, *line.split()) for line in INCEPTIONS),
    *(("-m", *line.split()) for line in SWEEPS),
    *(
        ("-m", f"{group}={bad}")
        for group, bad in product(GROUPS, ("null", "5", "[a]", "{a:1}", "nope", "''", "true"))
    ),
]


@pytest.fixture(scope="module")
def train() -> Any:
    """main() of scripts/train.py with these arguments: (exit status, what it says on stderr)."""
    main = runpy.run_path(str(ROOT / "scripts/train.py"))["main"]

    def call(arguments, capsys, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        status = main()
        return status, capsys.readouterr()

    return call


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("training started")


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case)[:80])
def test_bad_input_is_refused_in_one_line_before_anything_is_made(case, train, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bnrepro.runs.run._train", nothing)
    status, said = train(case, capsys, monkeypatch)
    assert status == 2, said
    lines = said.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 1200, said.err
    assert "Traceback" not in said.err + said.out and "Error" not in lines[0].split(":")[1], said.err
    assert not list(tmp_path.iterdir())


def test_there_are_five_hundred_of_them_and_every_setting_is_among_them():
    assert len(set(CASES)) >= 500
    touched = {word.partition("=")[0] for case in CASES for word in case}
    assert set(kinds()) - NAMES <= touched


GOOD = [
    *(
        "optim.lr=0.1",
        "optim.lr=1e-3",
        "seeds=3",
        "seeds=2-4",
        "seeds=[5,7]",
        "model.affine=false",
        "optim.schedule=step",
    ),
    *(
        "regime=tuned",
        "data.root=~/digits",
        'output="a=b"',
        "model.depth=1",
        "model.eps=1e-3",
        "experiment=fig1_quick",
    ),
    *(
        "debug=smoke",
        "data.holdout=1000",
        "data.examples=60",
        "eval.every=1",
        "model.width=2000",
        "train.memory=1000",
    ),
    *(
        "record.project=mine",
        "train.steps=1",
        "data.batch_size=4000",
        "model.dropout=0.5",
        "hydra.verbose=false",
    ),
]


@pytest.mark.parametrize("line", GOOD)
def test_good_neighbours_reach_training(line, train, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    reached = []
    monkeypatch.setattr("bnrepro.runs.run._train", lambda jobs, *_: reached.append(jobs))
    status, said = train((*MLP, line), capsys, monkeypatch)
    assert reached and status == 0, said.err


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("optim.lr=range(0.1,0.5,0.1)", [0.1, 0.2, 0.3, 0.4]),
        ("optim.lr=0.1,0.30000000000000004", [0.1, 0.30000000000000004]),
        ("variant=glob(bn_x*)", ["bn_x30", "bn_x5", "bn_x5_sigmoid"]),
        ("data.batch_size=range(10,40,10)", [10, 20, 30]),
        ("data.batch_size=range(16,100,32)", list(range(16, 100, 32))),
        ("optim.lr=range(0.1,0.35,0.1)", [0.1, 0.2, 0.3]),
        ("data.examples=range(5,0,-2)", [5, 3, 1]),
    ],
)
def test_a_range_is_exact_and_a_glob_is_what_matches(line, values):
    from bnrepro.config.compose import understood

    (axis,) = understood([line])
    found = [value.partition("=")[2] for value in axis.values]
    assert found == [str(value) for value in values] and str(axis) == f"{axis.key}={','.join(found)}"


@pytest.mark.parametrize("world", ["abc", "0", "-1", "2", "1.5", ""])
def test_what_torchrun_would_not_set_is_refused(world, train, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", world)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    status, said = train(MLP, capsys, monkeypatch)
    assert status == 2 and said.err.count("\n") == 1 and "torchrun" in said.err


def test_a_home_folder_is_filled_in_and_flags_may_stand_anywhere():
    from bnrepro.config.commandline import arguments
    from bnrepro.config.compose import single

    assert single(["data.root=~/digits"]).data.root == os.path.expanduser("~/digits")
    assert arguments(["a=1", "-m", "b=2", "--cfg", "job"]) == (["-m", "--cfg", "job"], ["a=1", "b=2"])


def test_the_memory_that_is_named_is_about_what_a_net_takes():
    from bnrepro.config import MLPConfig
    from bnrepro.config.size import memory

    one, ten = (Config(model=MLPConfig(width=1000), seeds=n) for n in (1, 10))
    parameters = 4.0 * (784 * 1000 + 2 * 1000**2 + 10 * 1000)
    assert parameters < memory(one) < 20 * parameters
    assert math.isclose(memory(ten) - memory(one), 9 / 10 * (memory(ten) - 784 * 5000), rel_tol=0.01)


def test_what_the_kernel_gives_back_counts_as_free_in_a_container(tmp_path):
    from bnrepro.config.size import free

    for name, content in {"max": "1000", "current": "900", "stat": "anon 200\ninactive_file 600"}.items():
        (tmp_path / f"memory.{name}").write_text(content + "\n")
    assert free(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert free(tmp_path) > 10_000


BROKEN = {
    "a tab": b"# @package _global_\nseeds:\t3\n\ttrain: 1\n",
    "a key twice": b"# @package _global_\nseeds: 3\nseeds: 4\n",
    "bytes": bytes(range(128, 256)),
    "a cycle": b"# @package _global_\ndefaults: [broken]\n",
    "a longer cycle": b"# @package _global_\ndefaults: [/variant@_global_: loop]\n",
    "a list": b"[1, 2]\n",
    "half a mapping": b"train: {steps: 3\n",
    "an unknown setting": b"# @package _global_\ntrain: {stepps: 3}\n",
    "a text where a number goes": b"# @package _global_\ntrain: {steps: many}\n",
    "a sweep of nothing": b"# @package _global_\nhydra: {sweeper: {params: 5}}\n",
    "an interpolation of nothing": b"# @package _global_\nregime: ${nope}\n",
    "code": b"# @package _global_\nregime: !!python/object/apply:os.getcwd []\n",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_of_conf_is_refused_in_one_line(broken, monkeypatch, tmp_path):
    from bnrepro.config import ConfigError, compose

    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf)
    (conf / "experiment/broken.yaml").write_bytes(BROKEN[broken])
    (conf / "variant/loop.yaml").write_bytes(
        b"# @package _global_\ndefaults: [/experiment@_global_: broken]\n"
    )
    monkeypatch.setattr(compose, "CONF", str(conf))
    for ask in (compose.single, compose.jobs):
        with pytest.raises(ConfigError) as caught:
            ask(["experiment=broken"])
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600, str(caught.value)


@pytest.mark.parametrize(
    ("group", "said", "body"),
    [
        ("variant", "", "model: {norm: bn}"),
        ("variant", "variant: bn", "model: {norm: renorm}"),
        ("variant", "", "regime: tuned\nmodel: {norm: renorm}"),
        ("experiment", "experiment: fig1_mnist", "train: {steps: 9}"),
    ],
)
def test_a_file_that_files_its_runs_under_another_name_is_refused(group, said, body, monkeypatch, tmp_path):
    from bnrepro.config import ConfigError, compose

    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf)
    monkeypatch.setattr(compose, "CONF", str(conf))
    mine = conf / group / "mine.yaml"
    mine.write_text(f"# @package _global_\n{said}\n{body}\n")
    for ask in (compose.single, compose.jobs):
        with pytest.raises(ConfigError, match=rf"conf/{group}/mine\.yaml has to say {group}: mine"):
            ask([f"{group}=mine"])
    mine.write_text(f"# @package _global_\n{group}: mine\n{body}\n")
    assert getattr(compose.single([f"{group}=mine"]), group) == "mine"


def test_values_in_conf_are_data():
    for path in (ROOT / "conf").rglob("*.yaml"):
        text = path.read_text().replace("${oc.env:BNREPRO_DATA,data}", "").replace('dir: "${output}"', "")
        assert not any(word in text for word in ("_target_", "!!", "${oc.")), path
