"""Settings: names, types, bounds, which of them fit together, and where a run with them lies."""

from bnrepro.config.checks import ConfigError
from bnrepro.config.parts import (
    BATCH_NORMS,
    IMAGES,
    NORMS,
    REFERENCE_BATCH,
    SMALLEST,
    DataConfig,
    EvalConfig,
    InceptionConfig,
    MLPConfig,
    ModelConfig,
    OptimConfig,
    RayConfig,
    RecordConfig,
    SlurmConfig,
    TrainConfig,
)
from bnrepro.config.schema import HOW, PATHS, Config, without_paths

__all__ = [
    "BATCH_NORMS",
    "HOW",
    "IMAGES",
    "NORMS",
    "PATHS",
    "REFERENCE_BATCH",
    "SMALLEST",
    "Config",
    "ConfigError",
    "DataConfig",
    "EvalConfig",
    "InceptionConfig",
    "MLPConfig",
    "ModelConfig",
    "OptimConfig",
    "RayConfig",
    "RecordConfig",
    "SlurmConfig",
    "TrainConfig",
    "without_paths",
]
