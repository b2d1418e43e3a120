"""Command-line overrides -> checked configurations, one per job. Hydra is imported here and in scripts/."""

from __future__ import annotations

import itertools
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bnrepro.address import address
from bnrepro.config import Config, ConfigError
from bnrepro.refusal import one_line

CONF = str(Path(__file__).resolve().parents[2] / "conf")
ConfigStore.instance().store(name="schema", node=Config)


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
            params = hydra.compose("config", single, return_hydra_config=True).hydra.sweeper.params or {}
            named = {o.key_or_group for o in given}
            swept = parse([f"{key}={values}" for key, values in params.items() if key not in named])
            axes = []
            for o in (*swept, *given):
                values = o.sweep_string_iterator() if o.is_sweep_override() else None
                axes.append([f"{o.get_key_element()}={v}" for v in values] if values else [str(o.input_line)])
            return [typed(hydra.compose("config", list(job))) for job in itertools.product(*axes)]
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


def declared(experiment: str, outputs: Path) -> list[Path]:
    """The run folders, below `outputs`, of the experiment file's own sweep."""
    return [outputs / address(cfg) for cfg in jobs([f"experiment={experiment}"])]


def single(overrides: list[str]) -> Config:
    """The configuration of one run. Raises ConfigError, in one line, if it is not valid."""
    try:
        with hydra.initialize_config_dir(CONF, version_base="1.3"):
            return typed(hydra.compose("config", overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error
