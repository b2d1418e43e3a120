"""A run's folder is a function of its hyperparameters that differ from their defaults."""

import re
from dataclasses import dataclass

import pytest
import yaml

from bnrepro.config import (
    Config,
    DataConfig,
    EvalConfig,
    InceptionConfig,
    MLPConfig,
    OptimConfig,
    TrainConfig,
)
from bnrepro.config.address import address, digest, identity, place
from bnrepro.config.compose import EXPERIMENTS, from_file, jobs, single
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import run


def test_the_default_run_has_no_identity_and_a_setting_at_its_default_changes_no_address():
    assert identity(Config()) == {}
    given = Config(model=MLPConfig(width=100), optim=OptimConfig(lr=0.1), train=TrainConfig(steps=50_000))
    assert identity(given) == {} and address(given) == address(Config())


def test_a_single_run_of_an_experiment_has_the_settings_of_its_sweep():
    for experiment, variant in (("fig2_imagenet_fast", "bn_x5"), ("ablation_imagenet", "less_l2")):
        given = [f"experiment={experiment}", f"variant={variant}"]
        assert [single(given)] == jobs(given)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_sweep_does_not_vary_is_set_for_a_single_run_too(path):
    params = yaml.safe_load(path.read_text()).get("hydra", {}).get("sweeper", {}).get("params") or {}
    once = {key for key, values in params.items() if not re.search(r"[,(]", str(values))}
    assert once <= {"variant"}


def test_an_identity_lists_what_differs_and_nothing_else():
    cfg = Config(model=MLPConfig(width=8, norm="bn"), optim=OptimConfig(lr=0.5), train=TrainConfig(steps=40))
    assert identity(cfg) == {"model.width": 8, "model.norm": "bn", "optim.lr": 0.5, "train.steps": 40}


def test_a_setting_that_is_added_later_changes_no_address_while_it_has_its_default():
    @dataclass
    class LaterConfig(MLPConfig):
        gate: str = "off"

    now, later = (Config(model=model(width=8)) for model in (MLPConfig, LaterConfig))
    assert address(now) == address(later)
    assert identity(Config(model=LaterConfig(gate="on"))) == {"model.gate": "on"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"train": TrainConfig(examples=60_000)}, {"train": TrainConfig(steps=1000)}),
        ({"eval": EvalConfig(points=50)}, {"eval": EvalConfig(every=1000)}),
        ({"optim": OptimConfig(decay_steps=0)}, {"optim": OptimConfig(decay_steps=50_000)}),
        ({"seeds": 5}, {"seeds": [7, 1]}),
    ],
)
def test_what_comes_to_the_same_run_has_the_same_address(one, other):
    assert address(Config(**one)) == address(Config(**other))


@pytest.mark.parametrize(
    "how",
    [
        *("output=elsewhere", "record=wandb", "data.root=there", "data.cache=here", "data.decode=stream"),
        *("train.engine=eager", "train.workers=1", "train.device=cpu", "train.checkpoint_seconds=0"),
    ],
)
def test_an_address_ignores_where_and_how_a_run_is_made(how):
    run = ["variant=inception", "data=shapes"] if how == "data.decode=stream" else ["variant=bn"]
    here, there = single(run), single([*run, how])
    assert here != there and identity(here) == identity(there) and address(here) == address(there)


def test_an_address_knows_how_images_are_decoded_where_corrupt_ones_make_a_difference():
    run = ["variant=inception", "data=shapes", "data.corrupt=skip"]
    assert address(single(run)) != address(single([*run, "data.decode=stream"]))


@pytest.mark.parametrize("what", ["optim.lr=0.2", "train.processes=2", "regime=tuned", "data.holdout=10"])
def test_an_address_knows_every_hyperparameter(what):
    assert address(single(["variant=bn"])) != address(single(["variant=bn", what]))


def test_an_address_says_what_sweeps_vary_and_no_two_words_are_alike():
    said = single(["variant=bn", "model.activation=relu", "model.dropout=0.5", "optim.batch_rule=linear"])
    assert address(said).startswith("scratch/bn/lr0.1-std0.1-b60-relu-dropout0.5-linear-")
    assert address(single(["variant=bn"])) == f"scratch/bn/lr0.1-std0.1-b60-{digest(single(['variant=bn']))}"
    for experiment in ("placement", "rate_multiples", "dropout_bn_1k", "inference_stats"):
        names = [address(cfg).rpartition("-")[0] for cfg in jobs([f"experiment={experiment}"])]
        assert len(set(names)) == len(names), experiment


def test_a_run_of_a_version_that_said_less_is_found_and_a_new_one_is_put_at_its_address(tmp_path):
    cfg = single(["variant=bn", "model.activation=relu"])
    assert place(tmp_path, cfg) == tmp_path / address(cfg)
    before = tmp_path / "scratch" / "bn" / f"lr0.1-std0.1-b60-{digest(cfg)}"
    before.mkdir(parents=True)
    assert place(tmp_path, cfg) == before
    (tmp_path / address(cfg)).mkdir()
    assert place(tmp_path, cfg) == tmp_path / address(cfg)


def test_the_two_nets_differ_in_their_addresses_even_at_all_defaults():
    mlp, inception = Config(), Config(model=InceptionConfig(), data=DataConfig("shapes"))
    assert identity(inception) == {"model.name": "inception", "data.name": "shapes"}
    assert address(mlp) != address(inception)
    assert "-std" in address(mlp) and "-std" not in address(inception)


def test_an_image_folder_is_known_by_its_place_and_the_other_images_by_their_names():
    for name, known in (("imagefolder", True), ("imagenette", False)):
        here, there = (
            Config(data=DataConfig(name, root=root), model=InceptionConfig()) for root in ("here", "there")
        )
        assert (address(here) != address(there)) is known


def test_a_sweep_has_one_address_per_combination_and_the_command_line_goes_before_the_file():
    configs = jobs(
        ["experiment=fig1_mnist", "optim.lr=0.1,0.5,2", "data.batch_size=16,60", "variant=baseline,bn"]
    )
    assert len({address(c) for c in configs}) == len(configs) == 12
    assert {(c.variant, c.regime) for c in jobs(["experiment=fig1_mnist"])} == {
        (arm, regime) for arm in ("baseline", "bn") for regime in ("paper_like", "tuned")
    }


@pytest.mark.parametrize("variant", ["bn", "inception"])
def test_a_configuration_read_back_from_a_run_s_folder_is_the_run_s(variant, tmp_path):
    wanted = [
        "train.steps=2",
        "eval.every=1",
        "train.engine=eager",
        f"output={tmp_path}",
        f"variant={variant}",
    ]
    if variant == "inception":
        wanted += ["data=shapes", "data.size=32", "data.num_classes=2", "model.multiplier=0.1"]
    cfg = single([*wanted, "data.batch_size=10", "train.workers=1"])
    run(cfg, lambda done, remark: None)
    read = from_file(RunFolder.of(cfg).config)
    assert address(read) == address(cfg) and type(read.model) is type(cfg.model)


def test_inception_s_rate_decays_slowly_unless_the_experiment_says_otherwise():
    slow, own = (
        single(["variant=bn_x5", "data=shapes"]),
        single(["experiment=fig2_imagenet", "variant=bn_x5"]),
    )
    assert (slow.optim.decay, own.optim.decay, own.optim.decay_times) == (0.75, 0.02, 6)
    assert single(["variant=bn_x5", "data=shapes", "optim.decay=0.5"]).optim.decay == 0.5
