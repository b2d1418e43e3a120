"""Every setting's name, type, default and bounds. Values of published figures live in conf/.

A wrong value raises ConfigError, with a one-line message, when the dataclass is made: before data is
read, a folder is made or a process is started.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bnrepro.checks import ConfigError as ConfigError
from bnrepro.checks import check, not_negative, one_of, positive
from bnrepro.together import BATCH_NORMS as BATCH_NORMS
from bnrepro.together import IMAGES, NORMS, SMALLEST, check_together

# Where and how a run is carried out, and what it writes: it cannot change the run's numbers beyond rounding.
# No part of its address (but for an image folder's root: address.py), and never published: no path or machine
# enters results/.
HOW = (
    *("output", "record", "data.root", "data.cache", "data.decode"),
    *("train.device", "train.compile", "train.drive", "train.workers", "train.checkpoint_seconds"),
)
REFERENCE_BATCH = 60  # the paper's; optim.batch_rule=linear keeps optim.lr there


@dataclass
class DataConfig:
    name: str = "mnist5k"
    root: str = "data"
    cache: str = ""  # folder of decoded images; "": BNREPRO_CACHE, or ~/.cache/bnrepro
    batch_size: int = 60
    num_classes: int = 0  # of colour images: the first N of the class list; 0: all
    size: int = 0  # height and width that colour images are brought to; 0: as they are (all must be alike)
    corrupt: str = "refuse"  # an image that cannot be decoded: refuse to train, or skip it with a warning
    decode: str = "cache"  # once, into a cache on disk; stream: anew for every batch
    shuffle: str = (
        "thorough"  # shards: fixed mini-batches in random order, as before change 6 of section 4.2.1
    )
    crop: int = 0  # augmentation: shift by up to so many pixels, edges reflected
    flip: bool = False  # augmentation: mirror half of the images
    distort: float = 0.0  # augmentation: brightness, contrast, saturation each times U(1 - d, 1 + d)
    binarize: bool = True  # pixels above 127 are 1, the others 0 (the paper's "binary image"; threshold ours)
    holdout: int = 0  # training images set aside for tuning: evaluated as val/*; test/* is left alone
    examples: int = 0  # training images kept, drawn once for all seeds (fewer are a subset of more); 0: all

    def __post_init__(self) -> None:
        one_of("data.name", self.name, ("mnist5k", "mnist", *IMAGES))
        check(self.batch_size >= 1, f"data.batch_size={self.batch_size}: must be at least 1")
        check(
            self.num_classes == 0 or self.num_classes >= 2, f"data.num_classes={self.num_classes}: 0 or >= 2"
        )
        not_negative("data.size", self.size)
        one_of("data.corrupt", self.corrupt, ("refuse", "skip"))
        one_of("data.decode", self.decode, ("cache", "stream"))
        one_of("data.shuffle", self.shuffle, ("thorough", "shards"))
        not_negative("data.crop", self.crop)
        not_negative("data.distort", self.distort, below=1)
        not_negative("data.holdout", self.holdout)
        not_negative("data.examples", self.examples)


@dataclass
class ModelConfig:
    name: str = "mlp"  # section 4.1's; inception: section 4.2's
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
    # inception only
    multiplier: float = 1.0  # of every layer's number of maps
    stem: str = "small"  # small: 5x5/1, for 64 x 64 pixels; imagenet: 7x7/2
    lrn: bool = False  # local response normalization after the two stem convolutions, as in GoogLeNet
    separable: bool = False  # first convolution: depthwise with multiplier 8, then 1x1
    per_activation: bool = False  # BN in the last block: statistics for every location (Figure 4's ensemble)
    init_scale: float = 1.0  # times the standard deviation of the initial kernels, see models/inception.py
    sync: bool = False  # BN statistics over the mini-batches of all torchrun processes
    native: bool = False  # norm=bn on feature maps by torch's kernel: the same function, faster uncompiled

    def __post_init__(self) -> None:
        one_of("model.name", self.name, ("mlp", "inception"))
        one_of("model.stem", self.stem, tuple(SMALLEST))
        positive("model.multiplier", self.multiplier)
        positive("model.init_scale", self.init_scale)
        if self.name == "inception":
            one_of("model.norm", self.norm, ("none", "bn", "torch"))
            check(self.affine and not self.noise, "model.affine, model.noise: only for model.name=mlp")
            check(not (self.per_activation and self.norm != "bn"), "model.per_activation needs model.norm=bn")
        check(not (self.sync and self.norm != "bn"), "model.sync=true needs model.norm=bn")
        one_of("model.activation", self.activation, ("sigmoid", "relu", "tanh"))
        one_of("model.norm", self.norm, NORMS)
        one_of("model.placement", self.placement, ("before", "after"))
        one_of("model.bias", self.bias, ("auto", "on", "off"))
        check(self.affine or self.norm == "bn", "model.affine=false: only for model.norm=bn")
        check(self.ghost_size >= 2, f"model.ghost_size={self.ghost_size}: must be at least 2")
        check(self.r_max >= 1 and self.d_max >= 0, "model.r_max must be at least 1, model.d_max at least 0")
        not_negative("model.noise", self.noise)
        check(self.width >= 1 and self.depth >= 1, "model.width and model.depth must be at least 1")
        not_negative("model.dropout", self.dropout, below=1)
        positive("model.init_std", self.init_std)
        positive("model.eps", self.eps)
        check(0 < self.bn_momentum <= 1, f"model.bn_momentum={self.bn_momentum}: must be above 0, at most 1")


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
    decay_steps: int = 10_000  # 0: all steps of the run

    def __post_init__(self) -> None:
        positive("optim.lr", self.lr)
        positive("optim.lr_scale", self.lr_scale)
        not_negative("optim.momentum", self.momentum, below=1)
        not_negative("optim.weight_decay", self.weight_decay)
        one_of("optim.batch_rule", self.batch_rule, ("constant", "linear"))
        one_of("optim.schedule", self.schedule, ("constant", "exponential", "step"))
        positive("optim.decay", self.decay)
        not_negative("optim.decay_steps", self.decay_steps)


@dataclass
class TrainConfig:
    steps: int = 50_000
    examples: int = 0  # instead of steps: examples to see, repeats counted; steps = examples / batch_size
    device: str = "auto"
    compile: str = (
        "auto"  # auto: compile where a C++ compiler is found and the run is long enough to repay it
    )
    autocast: str = "off"  # bf16: forward and backward in bfloat16, parameters in float32 (for a GPU)
    drive: str = "auto"  # how replicas advance: sequential (CPU), stacked (CUDA)
    processes: int = 1  # that share each mini-batch; torchrun sets it
    workers: int = 0  # processes on a CPU, one core each; 0: as many as cores, at most one a seed
    checkpoint_seconds: float = 10.0

    def __post_init__(self) -> None:
        check(self.steps >= 1, f"train.steps={self.steps}: must be at least 1")
        not_negative("train.examples", self.examples)
        one_of("train.device", self.device, ("auto", "cpu", "cuda"))
        one_of("train.autocast", self.autocast, ("off", "bf16"))
        one_of("train.compile", self.compile, ("auto", "on", "off"))
        one_of("train.drive", self.drive, ("auto", "sequential", "stacked"))
        not_negative("train.workers", self.workers)
        check(self.processes >= 1, f"train.processes={self.processes}: must be at least 1")
        not_negative("train.checkpoint_seconds", self.checkpoint_seconds)


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
        check(self.every >= 1, f"eval.every={self.every}: must be at least 1")
        not_negative("eval.points", self.points)


@dataclass
class RecordConfig:
    wandb: str = "off"
    project: str = "bnrepro"
    histograms: bool = True  # of the probed layer's activations, to W&B

    def __post_init__(self) -> None:
        one_of("record.wandb", self.wandb, ("off", "offline", "online"))


def _seeds(given: Any) -> list[int]:
    seeds = list(range(min(given, 10_001))) if type(given) is int else given
    integers = isinstance(seeds, list) and len(seeds) > 0 and all(type(s) is int and s >= 0 for s in seeds)
    check(integers, f"seeds={given}: give a number from 1 on, or a list such as [0,1,2]")
    check(len(seeds) <= 10_000, f"seeds={given}: at most 10,000 in one run")
    repeated = sorted(s for s, count in Counter(seeds).items() if count > 1)
    check(not repeated, f"seeds={given}: {repeated} appear twice; a repeated seed is not a new sample")
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
        check_together(self)
        if self.train.examples:
            self.train.steps = max(1, self.train.examples // m)
        if not self.optim.decay_steps:
            self.optim.decay_steps = self.train.steps
        if self.eval.points:
            self.eval.every = -(-self.train.steps // self.eval.points)
        for key in ("experiment", "variant", "regime"):
            name = getattr(self, key)
            plain = bool(name) and all(c.isalnum() or c in "_-+." for c in name) and not name.startswith(".")
            check(plain, f"{key}={name!r}: use letters, digits, '_', '-', '+' (it names a folder)")
