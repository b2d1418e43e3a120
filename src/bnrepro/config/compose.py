"""Command-line overrides -> checked configurations, one per job. Hydra is imported here and in scripts/."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bnrepro.config.address import place
from bnrepro.config.checks import ConfigError, check
from bnrepro.config.commandline import MOST_JOBS, Axis, axes
from bnrepro.config.compatibility import idle
from bnrepro.config.parts import InceptionConfig, MLPConfig, RayConfig, SlurmConfig
from bnrepro.config.refusal import one_line
from bnrepro.config.schema import Config
from bnrepro.files import shipped

CONF = str(shipped("conf"))
EXPERIMENTS = Path(CONF) / "experiment"
# Two ways to say the same: the second has the word where it is not 0.
INSTEAD = {"train.steps": "train.examples", "eval.every": "eval.points"}


def _store() -> None:
    """The schema, and a group `model` of the two kinds of network: each has its own settings."""
    schema = OmegaConf.structured(Config)
    schema.model = MISSING
    ConfigStore.instance().store(name="schema", node=schema)
    for node in (MLPConfig, InceptionConfig):
        ConfigStore.instance().store(group="model", name=node.name, node=node)
    for name, node in (("slurm", SlurmConfig), ("ray", RayConfig)):
        ConfigStore.instance().store(group="hydra/launcher_schema", name=name, node=node)


_store()


def typed(cfg: DictConfig) -> Config:
    """The composed configuration as checked dataclasses."""
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    return config


def _check_effects(given: Iterable[Axis], configs: list[Config]) -> None:
    """Raises ConfigError for a setting of the command line that no job of it looks at.

    One that some look at is good: arms are paired, and only some have what it sets.
    """
    for axis in given:
        why = [idle(axis.key, cfg.model, cfg.optim, cfg.eval) for cfg in configs]
        check(not all(why), f"{axis.key}: {why[0]}")


def jobs(overrides: list[str]) -> list[Config]:
    """The configurations of every job of a sweep, as Hydra's basic sweeper makes them.

    Axes are the sweep of the experiment file (hydra.sweeper.params) and comma lists or ranges among the
    overrides, which take precedence. Raises ConfigError, in one line, if any job is not valid.
    """
    with _hydra() as loader:
        given = [axis for axis in _given(overrides, loader) if not axis.key.startswith("hydra")]
        # The axes are the experiment's: its other settings may fit the variants it sweeps only.
        experiment = [axis.values[0] for axis in given if axis.key == "experiment" and not axis.swept]
        params = _sweep_of(experiment)
        for axis in (axis for axis in given if axis.key == "experiment" and axis.swept):
            own = next((value for value in axis.values if _sweep_of([value])), None)
            check(
                own is None,
                f"{own} has a sweep of its own, which a list would leave out: one command for each",
            )
        named = {axis.key for axis in given}
        swept = axes([f"{key}={values}" for key, values in params.items() if key not in named], loader)
        every = [*swept, *given]
        count = math.prod(len(axis.values) for axis in every)
        check(count <= MOST_JOBS, f"{count:,} jobs in one sweep: at most {MOST_JOBS:,}")
        combinations = itertools.product(*(axis.values for axis in every))
        configs = [typed(hydra.compose("config", list(job))) for job in combinations]
        _check_names(every)
        _check_effects(given, configs)
        return configs


def _check_names(given: Iterable[Axis]) -> None:
    """Raises ConfigError for a file of experiment/ or variant/ that does not say its own name, by which runs are filed.

    A variant's file of another regime, such as bn_tuned, has the name of the arm that it is.
    """
    for axis in given:
        for chosen in axis.values if axis.key in ("experiment", "variant") else ():
            name = chosen.partition("=")[2].strip("\"'")
            file = Path(CONF) / axis.key / f"{name}.yaml"
            own = yaml.safe_load(file.read_text()) or {} if file.exists() else {axis.key: name}
            arm = own.get("variant") or next((d for d in own.get("defaults", ()) if d != "_self_"), None)
            named = own.get(axis.key) == name or (axis.key == "variant" and "regime" in own and bool(arm))
            words = "the name that its runs are filed under"
            check(named, f"conf/{axis.key}/{name}.yaml has to say {axis.key}: {name}, {words}")


def left_out(given: list[Axis]) -> str:
    """What the experiment of one run sweeps and the command does not set: "model.width", or "" for nothing."""
    chosen = [axis.values[0] for axis in given if axis.key == "experiment"]
    if not chosen:
        return ""
    with _hydra():
        swept = _sweep_of(chosen)
    return ", ".join(key for key in swept if key not in {axis.key for axis in given})


def _sweep_of(experiment: list[str]) -> dict[str, Any]:
    """The sweep of an experiment's file: {setting: values, as on a command line}."""
    return hydra.compose("config", experiment, return_hydra_config=True).hydra.sweeper.params or {}


def _given(overrides: list[str], loader: Any) -> list[Axis]:
    """The settings of a command line. Who sets train.steps means it, also in an experiment that counts in examples.

    Then train.examples is set to 0 beside it, and eval.points beside eval.every. Of both the later one has the word.
    """
    given = axes(overrides, loader)
    names = [axis.key for axis in given]
    chosen = [axis for axis in given if axis.key == "experiment"]
    for key, other in INSTEAD.items():
        if key not in names or (other in names and names.index(other) > names.index(key)):
            continue
        swept = any(axis.swept for axis in chosen)
        counts = swept or OmegaConf.select(hydra.compose("config", [a.values[0] for a in chosen]), other)
        given = [axis for axis in given if axis.key != other]
        given += [Axis(other, [f"{other}=0"], False)] if counts else []
    return given


def launcher_settings(overrides: list[str]) -> SlurmConfig | RayConfig:
    """What hydra/launcher=slurm or ray and hydra.launcher.NAME=VALUE ask for. Raises ConfigError."""
    with _hydra() as loader:
        own = [axis for axis in axes(overrides, loader) if axis.key.startswith("hydra")]
        for axis in own:
            check(not axis.swept, f"{axis}: one value for all jobs of a sweep")
        composed = hydra.compose("config", [axis.values[0] for axis in own], return_hydra_config=True)
        settings = OmegaConf.to_object(composed.hydra.launcher)
        assert isinstance(settings, SlurmConfig | RayConfig)
        return settings


def understood(overrides: list[str]) -> list[Axis]:
    """The settings of a command line, each checked by itself. Raises ConfigError, in one line."""
    with _hydra() as loader:
        return _given(overrides, loader)


@contextmanager
def _hydra() -> Iterator[Any]:
    """Hydra's loader of our files, while it may be asked. Whatever is wrong with them or the settings is one line."""
    try:
        with hydra.initialize_config_dir(CONF, version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError("a file of conf/ names itself among its defaults") from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(one_line(error)) from error


def places(experiment: str, outputs: Path) -> list[Path]:
    """Where an experiment's runs lie below `outputs`: the folders of its file's own sweep, without trial runs.

    The whole folder outputs/<experiment> for an experiment without a file.
    """
    if not (EXPERIMENTS / f"{experiment}.yaml").exists():
        return [outputs / experiment]
    return [place(outputs, cfg) for cfg in jobs([f"experiment={experiment}"])]


def single(overrides: list[str], one_of_many: bool = False) -> Config:
    """The configuration of one run. Raises ConfigError, in one line, if it is not valid.

    one_of_many: a trial, in which a setting that others look at may have no effect.
    """
    with _hydra() as loader:
        given = _given(overrides, loader)
        for axis in given:
            check(not axis.swept, f"{axis}: several values are a sweep, which needs -m")
        config = typed(hydra.compose("config", [axis.values[0] for axis in given]))
        _check_names(given)
        if not one_of_many:
            _check_effects(given, [config])
        return config


def from_file(path: Path) -> Config:
    """The configuration that a run's config.yaml holds. Raises ConfigError."""
    try:
        loaded = OmegaConf.load(path)
        model = MLPConfig if loaded.model.name == MLPConfig.name else InceptionConfig
        schema = OmegaConf.structured(Config)
        schema.model = OmegaConf.structured(model)
        merged = OmegaConf.merge(schema, loaded)
        assert isinstance(merged, DictConfig)
        return typed(merged)
    except (OSError, ValueError, AttributeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} holds no configuration ({one_line(error)})") from error
