"""Command-line overrides -> checked configurations, one per job. Hydra is imported here and in scripts/."""

from __future__ import annotations

import itertools
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bnrepro.config.address import address
from bnrepro.config.checks import ConfigError
from bnrepro.config.parts import InceptionConfig, MLPConfig
from bnrepro.config.refusal import one_line
from bnrepro.config.schema import Config

CONF = str(Path(__file__).resolve().parents[3] / "conf")
EXPERIMENTS = Path(CONF) / "experiment"


def _store() -> None:
    """The schema, and a group `model` of the two kinds of network: each has its own settings."""
    schema = OmegaConf.structured(Config)
    schema.model = MISSING
    ConfigStore.instance().store(name="schema", node=schema)
    for node in (MLPConfig, InceptionConfig):
        ConfigStore.instance().store(group="model", name=node.name, node=node)


_store()


def typed(cfg: DictConfig) -> Config:
    """The composed configuration as checked dataclasses."""
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    return config


def jobs(overrides: list[str]) -> list[Config]:
    """The configurations of every job of a sweep, as Hydra's basic sweeper makes them.

    Axes are the sweep of the experiment file (hydra.sweeper.params) and comma lists or ranges among the
    overrides, which take precedence. Raises ConfigError, in one line, if any job is not valid.
    """
    parse = OverridesParser.create().parse_overrides
    try:
        given = [o for o in parse(overrides) if not o.key_or_group.startswith("hydra")]
        single = [str(o.input_line) for o in given if not o.is_sweep_override()]
        with hydra.initialize_config_dir(CONF, version_base="1.3"):
            # The axes are the experiment's: its other settings may fit the variants it sweeps only.
            experiment = [s for s in single if s.startswith("experiment=")]
            params = hydra.compose("config", experiment, return_hydra_config=True).hydra.sweeper.params or {}
            named = {o.key_or_group for o in given}
            swept = parse([f"{key}={values}" for key, values in params.items() if key not in named])
            axes = []
            for o in (*swept, *given):
                values = o.sweep_string_iterator() if o.is_sweep_override() else None
                axes.append([f"{o.get_key_element()}={v}" for v in values] if values else [str(o.input_line)])
            return [typed(hydra.compose("config", list(job))) for job in itertools.product(*axes)]
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(one_line(error)) from error


def places(experiment: str, outputs: Path, everything: bool = False) -> list[Path]:
    """Where an experiment's runs lie below `outputs`: the folders of its file's own sweep, without trial runs.

    The whole folder outputs/<experiment> for an experiment without a file, or where `everything` is asked for.
    """
    if everything or not (EXPERIMENTS / f"{experiment}.yaml").exists():
        return [outputs / experiment]
    return [outputs / address(cfg) for cfg in jobs([f"experiment={experiment}"])]


def single(overrides: list[str]) -> Config:
    """The configuration of one run. Raises ConfigError, in one line, if it is not valid."""
    try:
        with hydra.initialize_config_dir(CONF, version_base="1.3"):
            return typed(hydra.compose("config", overrides))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(one_line(error)) from error


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
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} holds no configuration ({one_line(error)})") from error
