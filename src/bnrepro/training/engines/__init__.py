"""Engines: who steps the replicas. Each only steps; `build_engine` picks one by the settings and the machine."""

from __future__ import annotations

import importlib.util

from bnrepro import machine
from bnrepro.config import Config, InceptionConfig
from bnrepro.data import Dataset
from bnrepro.training.engines.base import Engine, device_of, name_of
from bnrepro.training.state import State

__all__ = ["Engine", "build_engine", "device_of", "engine_of", "name_of"]


def engine_of(cfg: Config) -> tuple[str, str]:
    """(engine, why) for these settings on this machine: never a question of what else trains beside the run.

    auto: on a GPU cuda; on a CPU xla for flat nets, where jax is installed. Eager is what is left: convolutions
    (oneDNN's are as fast as XLA's, and stacked ones on a GPU are slower than one by one), bfloat16 on a CPU.
    """
    asked, convolutions = cfg.train.engine, isinstance(cfg.model, InceptionConfig)
    if cfg.train.processes > 1:
        return "data_parallel", ""
    if asked != "auto":
        return asked, ""
    if convolutions:
        return "eager", ""
    if device_of(cfg).type == "cuda":
        return "cuda", ""
    if cfg.train.autocast != "off":
        return "eager", "eager engine: xla has no bfloat16 autocast"
    if importlib.util.find_spec("jax") is None:
        return (
            "eager",
            "eager engine, some ten times slower than xla: pip install 'bnrepro[train]' brings jax",
        )
    return "xla", ""


def build_engine(state: State, data: Dataset) -> Engine:
    """The engine that the replicas' settings ask for. Forks, where it does, before anything starts a thread."""
    cfg = state.replicas[0].cfg
    name, why = engine_of(cfg)
    workers = (cfg.train.workers or machine.cores()) if data.device.type == "cpu" else 1
    engine: Engine | None = None
    if name == "data_parallel":
        from bnrepro.training.engines.data_parallel import DataParallel

        engine = DataParallel(state, data)
    elif name == "cuda":
        from bnrepro.training.engines.cuda import Cuda

        engine = Cuda(state, data)
    elif name == "xla":
        from bnrepro.training.engines.xla import Xla

        try:
            engine = Xla(state, data, workers)
        except NotImplementedError as error:
            why = f"eager engine: {error}"
    if engine is None:
        from bnrepro.training.engines.eager import Eager

        engine = Eager(state, data, workers)
    engine.note = engine.note or why
    return engine
