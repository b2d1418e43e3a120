"""Bad settings are refused in one line that says what to change, before anything is read or written."""

from dataclasses import fields

import pytest
import torch
import yaml

from bnrepro.config import Config, ConfigError, DataConfig, InceptionConfig, MLPConfig
from bnrepro.config.compose import from_file, jobs, single
from bnrepro.config.refusal import kinds
from bnrepro.data import DataError
from bnrepro.runs.run import check

BAD = {
    "optim.lrr=1": r"optim\.lrr: no such setting.*optim\.lr",
    "model.widht=8": r"model\.widht: no such setting.*model\.width",
    "variant=bnn": "variant=bnn: no such variant.*did you mean bn.*baseline",
    "data=mnst": "data=mnst: no such data.*mnist",
    "model=incepton": "model=incepton: no such model.*did you mean inception.*mlp",
    "data.batch_size=0": "batch_size=0",
    "data.batch_size=-60": "batch_size=-60",
    "data.batch_size=4001": "only 4000 .*batch_size=4001",
    "variant=bn data.batch_size=1": "at least 2 examples",
    "optim.lr=-0.1": "optim.lr=-0.1",
    "optim.lr=nan": "optim.lr=nan",
    "optim.lr=fast": "optim.lr=fast",
    "seeds=[1,2,1]": r"\[1\] appear twice",
    "seeds=0": "seeds=0",
    "experiment=null": "leave it out instead of null",
    "seeds=9-3": "seeds=9-3: a range runs upwards",
    "seeds=3-": "seeds='3-': give a number",
    "seeds=0-99999": "at most 10,000",
    "eval.units=true eval.probe=false": r"eval\.units=true is part of eval\.probe",
    "seeds=100000": "at most 10,000",
    "model.width=10,,20": "nothing stands between two commas",
    "model.activation=sigmod": "did you mean sigmoid",
    "model.dropout=1": "model.dropout=1",
    "train.device=tpu": "train.device=tpu",
    "train.device=cuda": "no CUDA device",
    "train.engine=fast": r"train\.engine=fast: choose one of auto, xla, eager, cuda",
    "train.engine=xla train.device=cuda": r"train\.engine=xla runs on the CPU",
    "train.engine=cuda train.device=cpu": r"train\.engine=cuda needs a GPU",
    "variant=inception data=shapes train.engine=xla": r"train\.engine=xla: only for model=mlp",
    "regime=../x": "regime",
    "variant=../x": "variant",
    # Each net has its own settings:
    "model=inception model.width=8": r"^model\.width: only for model=mlp$",
    "variant=inception model.init_std=1": r"^model\.init_std: only for model=mlp$",
    "model.multiplier=0.5": r"^model\.multiplier: only for model=inception$",
    "model=mlp model.stem=imagenet": r"^model\.stem: only for model=inception$",
    "model.name=inception": r"model\.name=inception: choose one of mlp",
    "model=inception model.name=mlp": r"model\.name=mlp: choose one of inception",
    # What nothing looks at would give two names to the same numbers:
    "optim.decay=0.5": r"optim\.decay: no effect with optim\.schedule=constant",
    "optim.schedule=constant optim.decay_times=6": r"optim\.decay_times: no effect with optim\.schedule=constant",
    "model.placement=after": r"model\.placement: no effect with model\.norm=none",
    "variant=weightnorm model.placement=after": r"no effect with model\.norm=weight",
    "variant=bn model.ghost_size=8": r"model\.ghost_size: no effect with model\.norm=bn; only with ghost",
    "variant=layernorm model.bn_momentum=0.5": r"model\.bn_momentum: no effect",
    "variant=baseline eval.inference=true": r"eval\.inference: no effect with model\.norm=none",
    "variant=inception data=shapes model.native=true": r"model\.native: no effect with model\.norm=none",
    "variant=bn_ghost model.ghost_size=12 data.batch_size=24 eval.noise=true": r"not in groups of model\.ghost_size=12",
    "variant=bn data.examples=90 data.batch_size=10 eval.noise=true": r"eval\.noise=true: needs 100 training",
    "train.engine=xla train.autocast=bf16": r"train\.engine=xla computes in float32",
    "model=inception model.norm=ghost": r"model\.norm=ghost: choose one of none, bn, torch",
}


@pytest.mark.parametrize("overrides", BAD)
@pytest.mark.skipif(torch.cuda.is_available(), reason="here train.device=cuda is good input")
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(overrides, tmp_path):
    with pytest.raises((ConfigError, DataError), match=BAD[overrides]) as caught:
        check(single([*overrides.split(), f"output={tmp_path}"]))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_sweep_with_one_bad_job_is_refused_as_a_whole():
    with pytest.raises(ConfigError, match=r"^model\.width: only for model=mlp$"):
        jobs(["variant=bn,inception", "model.width=8"])


def test_a_setting_that_only_some_arms_or_trials_have_is_good():
    both = jobs(["experiment=fig1_quick", "model.placement=after", "model.bn_momentum=0.5"])
    assert [cfg.model.placement for cfg in both] == ["after", "after"]
    assert single(["model.placement=after"], one_of_many=True).model.norm == "none"
    with pytest.raises(ConfigError, match=r"model\.ghost_size: no effect"):
        jobs(["experiment=fig1_quick", "model.ghost_size=8"])


@pytest.mark.parametrize(
    "line", ["variant=bn_x5 data=shapes optim.schedule=constant", "variant=bn_frozen model.norm=bn"]
)
def test_what_a_variant_brings_along_may_be_idle(line):
    assert single(line.split())


def test_a_run_on_disk_with_a_setting_that_nothing_looks_at_is_still_read(tmp_path):
    cfg = single(["variant=bn", "model.placement=after"])
    settings = cfg.resolved()
    settings["model"] |= {"norm": "none", "ghost_size": 8}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert from_file(tmp_path / "config.yaml").model.placement == "after"


@pytest.mark.parametrize("content", [b"a: [1", bytes(40), b"model: 3\n", b"\xff", b""])
def test_a_damaged_configuration_is_said_in_one_line(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match="holds no configuration"):
        from_file(tmp_path / "config.yaml")


def test_who_sets_steps_or_the_distance_of_evaluations_means_it_also_where_the_experiment_counts_otherwise():
    one = ["variant=bn", "optim.lr=0.1", "data.batch_size=60", "model.activation=relu", "model.dropout=0"]
    (counted,), (own,), (smoke,) = (
        jobs(["experiment=design_grid", *one, *more])
        for more in ([], ["train.steps=100", "eval.every=10"], ["debug=smoke"])
    )
    assert (counted.steps, counted.every) == (16_666, 834)
    assert (own.steps, own.every) == (100, 10)
    assert (smoke.steps, smoke.every) == (60, 20)


def test_of_a_setting_that_is_given_twice_the_last_has_the_word():
    assert single(["optim.lr=0.1", "optim.lr=0.2"]).optim.lr == 0.2
    assert single(["train.steps=10", "train.examples=1200"]).steps == 20
    assert single(["train.examples=1200", "train.steps=10"]).steps == 10
    swept = jobs(["variant=bn", "optim.lr=0.1,0.2", "optim.lr=0.3,0.4"])
    assert [cfg.optim.lr for cfg in swept] == [0.3, 0.4]


def test_seeds_may_be_a_range():
    assert single(["seeds=10-12"]).seeds == [10, 11, 12]
    assert single(["seeds=7-7"]).seeds == [7]


def test_a_net_has_no_setting_of_the_other():
    mlp, inception = ({field.name for field in fields(kind)} for kind in (MLPConfig, InceptionConfig))
    assert {"width", "depth", "init_std", "noise"} <= mlp - inception
    assert {"multiplier", "stem", "lrn", "native"} <= inception - mlp
    with pytest.raises(TypeError, match="width"):
        InceptionConfig(width=8)  # pyright: ignore[reportCallIssue]


def test_the_settings_are_those_of_both_nets_by_their_dotted_names():
    names = kinds()
    assert {"seeds", "optim.lr", "model.width", "model.multiplier", "train.engine"} <= set(names)
    assert not {"optim", "model", "width"} & set(names)


def test_both_nets_are_good_at_their_defaults_with_images_that_fit():
    for model, data in ((MLPConfig(), DataConfig()), (InceptionConfig(), DataConfig("shapes"))):
        assert Config(model=model, data=data).model is model
    with pytest.raises(ConfigError, match="model=inception needs data=tiny_imagenet"):
        Config(model=InceptionConfig())
