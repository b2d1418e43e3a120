"""Every setting's name, type, default and bounds. Values of published figures live in conf/.

A wrong value raises ConfigError, with a one-line message, when the dataclass is made: before data is
read, a folder is made or a process is started.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot be trained with; the message is one line and says what to change."""


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    near = difflib.get_close_matches(value, known, n=2, cutoff=0.5)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    _check(value in known, f"{key}={value}: choose one of {', '.join(known)}{hint}")


def _positive(key: str, value: float) -> None:
    _check(math.isfinite(value) and value > 0, f"{key}={value}: must be a finite number above 0")


def _not_negative(key: str, value: float, below: float = math.inf) -> None:
    bound = "" if below == math.inf else f" and below {below:g}"
    _check(math.isfinite(value) and 0 <= value < below, f"{key}={value}: must be at least 0{bound}")


NORMS = ("none", "bn", "torch", "renorm", "ghost", "group", "layer", "weight")
BATCH_NORMS = ("bn", "torch", "renorm", "ghost")  # those that take statistics over the mini-batch
REFERENCE_BATCH = 60  # the paper's; optim.batch_rule=linear keeps optim.lr there


@dataclass
class DataConfig:
    name: str = "mnist5k"
    root: str = "data"
    batch_size: int = 60
    binarize: bool = True  # pixels above 127 are 1, the others 0 (the paper's "binary image"; threshold ours)
    holdout: int = 0  # training images set aside for tuning: evaluated as val/*; test/* is left alone
    examples: int = 0  # training images kept, drawn once for all seeds (fewer are a subset of more); 0: all

    def __post_init__(self) -> None:
        _one_of("data.name", self.name, ("mnist5k", "mnist"))
        _check(self.batch_size >= 1, f"data.batch_size={self.batch_size}: must be at least 1")
        _not_negative("data.holdout", self.holdout)
        _not_negative("data.examples", self.examples)


@dataclass
class ModelConfig:
    width: int = 100
    depth: int = 3
    activation: str = "sigmoid"
    norm: str = "none"  # bn: from scratch; torch: nn.BatchNorm1d; the others: models/normalization.py
    placement: str = "before"  # normalization before the nonlinearity, as in the paper, or after it
    affine: bool = True  # BN's gamma and beta
    bias: str = "auto"  # of the hidden layers; auto: unless BN's beta takes its place (section 3.2)
    ghost_size: int = 16  # norm=ghost: examples that share one statistic
    r_max: float = 3.0  # norm=renorm: limits of its two corrections; .inf: no limit
    d_max: float = 5.0
    noise: float = 0.0  # injected after BN, as in Santurkar et al. 2018; sizes in models/mlp.py
    dropout: float = 0.0
    init_std: float = 0.1  # the paper: "small random Gaussian values"
    eps: float = 1e-5
    bn_momentum: float = 0.1

    def __post_init__(self) -> None:
        _one_of("model.activation", self.activation, ("sigmoid", "relu", "tanh"))
        _one_of("model.norm", self.norm, NORMS)
        _one_of("model.placement", self.placement, ("before", "after"))
        _one_of("model.bias", self.bias, ("auto", "on", "off"))
        _check(self.affine or self.norm == "bn", "model.affine=false: only for model.norm=bn")
        _check(self.ghost_size >= 2, f"model.ghost_size={self.ghost_size}: must be at least 2")
        _check(self.r_max >= 1 and self.d_max >= 0, "model.r_max must be at least 1, model.d_max at least 0")
        _not_negative("model.noise", self.noise)
        _check(self.width >= 1 and self.depth >= 1, "model.width and model.depth must be at least 1")
        _not_negative("model.dropout", self.dropout, below=1)
        _positive("model.init_std", self.init_std)
        _positive("model.eps", self.eps)
        _check(0 < self.bn_momentum <= 1, f"model.bn_momentum={self.bn_momentum}: must be above 0, at most 1")


@dataclass
class OptimConfig:
    lr: float = 0.1
    lr_scale: float = 1.0  # multiplies lr, as the paper's "x5" and "x30"
    batch_rule: str = "constant"  # linear: the rate is lr * batch_size / 60
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    decay: float = (
        0.1  # exponential: lr * decay^(step / decay_steps); step: lr * decay^floor(step / decay_steps)
    )
    decay_steps: int = 10_000

    def __post_init__(self) -> None:
        _positive("optim.lr", self.lr)
        _positive("optim.lr_scale", self.lr_scale)
        _not_negative("optim.momentum", self.momentum, below=1)
        _not_negative("optim.weight_decay", self.weight_decay)
        _one_of("optim.batch_rule", self.batch_rule, ("constant", "linear"))
        _one_of("optim.schedule", self.schedule, ("constant", "exponential", "step"))
        _positive("optim.decay", self.decay)
        _check(self.decay_steps >= 1, f"optim.decay_steps={self.decay_steps}: must be at least 1")


@dataclass
class TrainConfig:
    steps: int = 50_000
    examples: int = 0  # instead of steps: examples to see, repeats counted; steps = examples / batch_size
    device: str = "auto"
    compile: str = (
        "auto"  # auto: compile where a C++ compiler is found and the run is long enough to repay it
    )
    drive: str = "auto"  # how replicas advance: sequential (CPU), stacked (CUDA)
    workers: int = 0  # processes on a CPU, one core each; 0: as many as cores, at most one a seed
    checkpoint_seconds: float = 10.0

    def __post_init__(self) -> None:
        _check(self.steps >= 1, f"train.steps={self.steps}: must be at least 1")
        _not_negative("train.examples", self.examples)
        _one_of("train.device", self.device, ("auto", "cpu", "cuda"))
        _one_of("train.compile", self.compile, ("auto", "on", "off"))
        _one_of("train.drive", self.drive, ("auto", "sequential", "stacked"))
        _not_negative("train.workers", self.workers)
        _not_negative("train.checkpoint_seconds", self.checkpoint_seconds)


@dataclass
class EvalConfig:
    every: int = 500
    points: int = 0  # instead of `every`: evaluations, equally spaced
    early: bool = True  # also at steps 1, 2, 5, 10, 20, 50, ... below `every`
    probe: bool = True
    train: bool = False  # also 10,000 training images, in evaluation mode
    inference: bool = False  # BN also with population and with test-batch statistics, at every evaluation
    noise: bool = False  # at the last step: how much mini-batch statistics vary (section 3.4)
    diagnose: bool = False  # covariate shift, loss landscape, Jacobians, gradients: diagnostics.py

    def __post_init__(self) -> None:
        _check(self.every >= 1, f"eval.every={self.every}: must be at least 1")
        _not_negative("eval.points", self.points)


@dataclass
class RecordConfig:
    wandb: str = "off"
    project: str = "bnrepro"
    histograms: bool = True  # of the probed layer's activations, to W&B

    def __post_init__(self) -> None:
        _one_of("record.wandb", self.wandb, ("off", "offline", "online"))


def _seeds(given: Any) -> list[int]:
    seeds = list(range(min(given, 10_001))) if type(given) is int else given
    integers = isinstance(seeds, list) and len(seeds) > 0 and all(type(s) is int and s >= 0 for s in seeds)
    _check(integers, f"seeds={given}: give a number from 1 on, or a list such as [0,1,2]")
    _check(len(seeds) <= 10_000, f"seeds={given}: at most 10,000 in one run")
    repeated = sorted(s for s, count in Counter(seeds).items() if count > 1)
    _check(not repeated, f"seeds={given}: {repeated} appear twice; a repeated seed is not a new sample")
    return seeds


@dataclass
class Config:
    experiment: str = "scratch"
    variant: str = "baseline"
    regime: str = "default"  # names a hyperparameter rule in tables, for example paper_like or tuned
    seeds: Any = 1  # a number of seeds (0, 1, ...) or a list of them
    output: str = "outputs"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    record: RecordConfig = field(default_factory=RecordConfig)

    def __post_init__(self) -> None:
        self.seeds = _seeds(self.seeds)
        m = self.data.batch_size
        if self.model.norm in BATCH_NORMS:
            _check(m > 1, "data.batch_size=1: Batch Normalization needs at least 2 examples")
        whole = m <= self.model.ghost_size or m % self.model.ghost_size == 0
        _check(
            self.model.norm != "ghost" or whole,
            f"data.batch_size={m}: not a multiple of model.ghost_size={self.model.ghost_size}",
        )
        if self.train.examples:
            self.train.steps = max(1, self.train.examples // m)
        if self.eval.points:
            self.eval.every = -(-self.train.steps // self.eval.points)
        for key in ("experiment", "variant", "regime"):
            name = getattr(self, key)
            plain = bool(name) and all(c.isalnum() or c in "_-+." for c in name) and not name.startswith(".")
            _check(plain, f"{key}={name!r}: use letters, digits, '_', '-', '+' (it names a folder)")


# What cannot change a run's numbers, beyond rounding: where and how it runs, and what it writes.
_NOT_IN_ADDRESS = {"output", "record", "root", "device", "compile", "drive", "workers", "checkpoint_seconds"}


def packable(cfg: Config) -> str:
    """Runs of equal value share all shapes and steps, so that one compiled step trains them together."""
    free = {"experiment", "variant", "regime", "seeds", "output", "record"}
    kept: dict[str, Any] = {key: node for key, node in asdict(cfg).items() if key not in free}
    for key in ("lr", "lr_scale", "schedule", "decay", "decay_steps", "batch_rule"):
        del kept["optim"][key]
    kept["model"] |= {"init_std": 1.0, "dropout": kept["model"]["dropout"] > 0}
    return json.dumps(kept, sort_keys=True)


def address(cfg: Config) -> str:
    """A run's folder as a function of its hyperparameters: <experiment>/<variant>/<readable>-<hash>."""

    def kept(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return {k: kept(v) for k, v in sorted(node.items()) if k not in _NOT_IN_ADDRESS}

    digest = hashlib.sha256(json.dumps(kept(asdict(cfg)), sort_keys=True).encode()).hexdigest()[:8]
    readable = f"lr{cfg.optim.lr:g}-std{cfg.model.init_std:g}-b{cfg.data.batch_size}-n{len(cfg.seeds)}"
    return f"{cfg.experiment}/{cfg.variant}/{readable}-{digest}"
