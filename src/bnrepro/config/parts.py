"""Every setting's name, type, default and bounds, by part. Values of published figures live in conf/.

A wrong value raises ConfigError, with a one-line message, when the dataclass is made: before data is
read, a folder is made or a process is started.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bnrepro.config.checks import between, check, not_negative, one_of, positive

NORMS = ("none", "bn", "torch", "renorm", "ghost", "group", "layer", "weight")
BATCH_NORMS = ("bn", "torch", "renorm", "ghost")  # those that take statistics over the mini-batch
IMAGES = ("tiny_imagenet", "imagenette", "imagefolder", "shapes")  # colour images, decoded once into a cache
SMALLEST = {"small": 32, "imagenet": 128}  # image sizes from which the stem leaves stage 5 at least 2 x 2
REFERENCE_BATCH = 60  # the paper's; optim.batch_rule=linear keeps optim.lr there
ENGINES = ("auto", "xla", "eager", "cuda")


@dataclass
class DataConfig:
    name: str = "mnist5k"  # which data: set by data=
    root: str = "data"  # folder of the files (or BNREPRO_DATA)
    cache: str = ""  # folder of decoded images; "": BNREPRO_CACHE, or ~/.cache/bnrepro
    batch_size: int = 60  # examples in a mini-batch
    num_classes: int = 0  # of colour images: the first N of the class list; 0: all
    size: int = 0  # height and width that colour images are brought to; 0: as they are (all must be alike)
    corrupt: str = "refuse"  # an image that cannot be decoded: refuse to train, or skip it with a warning
    decode: str = "cache"  # once, into a cache on disk; stream: anew for every batch
    shuffle: str = "thorough"  # shards: fixed mini-batches in random order, as before change 6 of 4.2.1
    crop: int = 0  # augmentation: shift by up to so many pixels, edges reflected
    flip: bool = False  # augmentation: mirror half of the images
    distort: float = 0.0  # augmentation: brightness, contrast, saturation each times U(1 - d, 1 + d)
    binarize: bool = True  # pixels above 127 are 1, the others 0 (the paper's "binary image"; threshold ours)
    moved: int = (
        0  # training images moved to the test set, as even over classes as it goes: where it is small
    )
    holdout: int = 0  # training images set aside for tuning: evaluated as val/*; test/* is left alone
    examples: int = 0  # training images that a seed sees, a subset of its own (fewer: part of more); 0: all

    def __post_init__(self) -> None:
        one_of("data.name", self.name, ("mnist5k", "mnist", *IMAGES))
        between("data.batch_size", self.batch_size, 1, 1_000_000)
        check(
            self.num_classes == 0 or self.num_classes >= 2, f"data.num_classes={self.num_classes}: 0 or >= 2"
        )
        between("data.size", self.size, 0, 4096)
        one_of("data.corrupt", self.corrupt, ("refuse", "skip"))
        one_of("data.decode", self.decode, ("cache", "stream"))
        one_of("data.shuffle", self.shuffle, ("thorough", "shards"))
        not_negative("data.crop", self.crop)
        fits = self.size == 0 or 2 * self.crop <= self.size
        check(fits, f"data.crop={self.crop}: a shift of at most half of data.size={self.size}")
        not_negative("data.distort", self.distort, below=1)
        between("data.moved", self.moved, 0, 100_000_000)
        between("data.holdout", self.holdout, 0, 100_000_000)
        between("data.examples", self.examples, 0, 100_000_000)
        between("data.num_classes", self.num_classes, 0, 1_000_000)


@dataclass
class ModelConfig:
    """What both networks have. `MLPConfig` and `InceptionConfig` add what only one of them has."""

    name: str = "???"
    activation: str = "sigmoid"  # the nonlinearity after every layer but the last
    norm: str = "none"  # bn: from scratch; torch: nn.BatchNorm1d; the others: models/normalization.py
    placement: str = "before"  # normalization before the nonlinearity, as in the paper, or after it
    affine: bool = True  # BN's gamma and beta
    bias: str = "auto"  # of the hidden layers; auto: none before a normalization with a beta (section 3.2)
    dropout: float = (
        0.0  # share of activations dropped: after each hidden layer (mlp), before the classifier (inception)
    )
    eps: float = 1e-5  # added to the variance under the root; the paper states none
    bn_momentum: float = 0.1  # weight of a new mini-batch in the moving averages
    sync: bool = False  # BN statistics over the mini-batches of all torchrun processes

    def __post_init__(self) -> None:
        one_of("model.activation", self.activation, ("sigmoid", "relu", "tanh"))
        one_of("model.norm", self.norm, NORMS)
        one_of("model.placement", self.placement, ("before", "after"))
        one_of("model.bias", self.bias, ("auto", "on", "off"))
        check(self.affine or self.norm == "bn", "model.affine=false: only for model.norm=bn")
        check(not (self.sync and self.norm != "bn"), "model.sync=true needs model.norm=bn")
        not_negative("model.dropout", self.dropout, below=1)
        positive("model.eps", self.eps)
        check(0 < self.bn_momentum <= 1, f"model.bn_momentum={self.bn_momentum}: must be above 0, at most 1")


@dataclass
class MLPConfig(ModelConfig):
    """model=mlp, the net of section 4.1."""

    name: str = "mlp"
    width: int = 100  # units in a hidden layer
    depth: int = 3  # hidden layers
    init_std: float = 0.1  # the paper: "small random Gaussian values"
    ghost_size: int = 16  # norm=ghost: examples that share one statistic
    r_max: float = 3.0  # norm=renorm: limits of its two corrections; .inf: no limit
    d_max: float = 5.0  # norm=renorm: limit of the shift
    noise: float = 0.0  # injected after BN, as in Santurkar et al. 2018; sizes in models/mlp.py

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("model.name", self.name, ("mlp",))
        between("model.width", self.width, 1, 1_000_000)
        between("model.depth", self.depth, 1, 1_000)
        positive("model.init_std", self.init_std)
        between("model.ghost_size", self.ghost_size, 2, 1_000_000)
        check(self.r_max >= 1 and self.d_max >= 0, "model.r_max must be at least 1, model.d_max at least 0")
        not_negative("model.noise", self.noise)


@dataclass
class InceptionConfig(ModelConfig):
    """model=inception, the net of section 4.2."""

    name: str = "inception"
    multiplier: float = 1.0  # of every layer's number of maps
    stem: str = "small"  # small: 5x5/1, for 64 x 64 pixels; imagenet: 7x7/2
    lrn: bool = False  # local response normalization after the two stem convolutions, as in GoogLeNet
    separable: bool = False  # first convolution: depthwise with multiplier 8, then 1x1
    per_activation: bool = False  # BN in the last block: statistics for every location (Figure 4's ensemble)
    init_scale: float = 1.0  # times the standard deviation of the initial kernels, see models/inception.py
    native: bool = False  # norm=bn on feature maps by torch's kernel: the same function, faster uncompiled

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("model.name", self.name, ("inception",))
        one_of("model.norm", self.norm, ("none", "bn", "torch"))
        one_of("model.stem", self.stem, tuple(SMALLEST))
        between("model.multiplier", self.multiplier, 0.01, 100)
        positive("model.init_scale", self.init_scale)
        check(not (self.per_activation and self.norm != "bn"), "model.per_activation needs model.norm=bn")


@dataclass
class OptimConfig:
    lr: float = 0.1  # learning rate
    lr_scale: float = 1.0  # multiplies lr, as the paper's "x5" and "x30"
    batch_rule: str = "constant"  # linear: the rate is lr * batch_size / 60
    momentum: float = 0.0  # of the velocity, as in torch.optim.SGD
    weight_decay: float = 0.0  # L2, added to the gradient
    schedule: str = (
        "constant"  # exponential: lr * decay^p, p = decay_times * step / decay_steps; step: p rounded down
    )
    decay: float = 0.1  # what a schedule multiplies the rate by in decay_steps
    decay_times: float = 1.0  # how many times faster than that it decays: 6 in section 4.2.1
    decay_steps: int = 10_000  # 0: all steps of the run

    def __post_init__(self) -> None:
        positive("optim.lr", self.lr)
        positive("optim.lr_scale", self.lr_scale)
        not_negative("optim.momentum", self.momentum, below=1)
        not_negative("optim.weight_decay", self.weight_decay)
        one_of("optim.batch_rule", self.batch_rule, ("constant", "linear"))
        one_of("optim.schedule", self.schedule, ("constant", "exponential", "step"))
        positive("optim.decay", self.decay)
        positive("optim.decay_times", self.decay_times)
        between("optim.decay_steps", self.decay_steps, 0, 10**12)


@dataclass
class TrainConfig:
    steps: int = 50_000  # mini-batches to train on
    examples: int = 0  # instead of steps: examples to see, repeats counted; steps = examples / batch_size
    device: str = "auto"  # auto: a GPU where there is one
    engine: str = "auto"  # what steps the nets: xla (flat nets on a CPU), eager (anything), cuda (a GPU)
    autocast: str = "off"  # bf16: forward and backward in bfloat16, parameters in float32
    processes: int = 1  # that share each mini-batch; torchrun sets it
    workers: int = 0  # cores to use on a CPU; 0: all. A net has one, and OMP_NUM_THREADS gives it more
    checkpoint_seconds: float = 10.0  # at least so long between two checkpoints
    memory: float = 0.0  # GiB that a run may take; 0: what is free. A run that would need more is refused

    def __post_init__(self) -> None:
        between("train.steps", self.steps, 1, 10**12)
        between("train.examples", self.examples, 0, 10**15)
        one_of("train.device", self.device, ("auto", "cpu", "cuda"))
        one_of("train.engine", self.engine, ENGINES)
        one_of("train.autocast", self.autocast, ("off", "bf16"))
        between("train.workers", self.workers, 0, 10_000)
        between("train.processes", self.processes, 1, 10_000)
        not_negative("train.memory", self.memory)
        not_negative("train.checkpoint_seconds", self.checkpoint_seconds)


@dataclass
class EvalConfig:
    every: int = 500  # steps between evaluations
    points: int = 0  # instead of `every`: evaluations, equally spaced
    first: int = 0  # also each so many steps of the first quarter, where curves are steep; 0: as `every`
    early: bool = True  # also at steps 1, 2, 5, 10, 20, 50, ... below `every`
    # What is measured beside the split's accuracy: measure/evaluators.py has one evaluator for each name.
    probe: bool = True  # percentiles of the inputs to nonlinearities (Figures 1b and 1c)
    units: bool = False  # probe every unit: early, at the first ten evaluations, each tenth, and the last
    train: bool = False  # also 10,000 training images, in evaluation mode
    test: bool = False  # with data.holdout, at the last step: also the test set
    population_curve: bool = False  # BN also with population statistics at every evaluation
    inference: bool = False  # BN also with population and with test-batch statistics, at every evaluation
    population: int = 1_000  # mini-batches of Algorithm 2, at most: an epoch of MNIST at batch 60
    noise: bool = False  # at the last step: how much mini-batch statistics vary (section 3.4)
    diagnose: bool = False  # covariate shift, loss landscape, Jacobians, gradients: measure/diagnostics.py

    def __post_init__(self) -> None:
        between("eval.every", self.every, 1, 10**12)
        between("eval.first", self.first, 0, 10**12)
        between("eval.points", self.points, 0, 1_000_000)
        between("eval.population", self.population, 1, 10**9)


@dataclass
class RecordConfig:
    wandb: str = "off"  # mirror the run to W&B: offline into its folder, online to the server
    project: str = "bnrepro"  # W&B's project
    histograms: bool = True  # of the probed layers' activations, beside the table and to W&B

    def __post_init__(self) -> None:
        one_of("record.wandb", self.wandb, ("off", "offline", "online"))
        good = 0 < len(self.project) <= 128 and not set(self.project) & set("/\\#?%:")
        check(good, f"record.project={self.project[:40]}: W&B takes 1 to 128 letters, none of / \\ # ? % :")


@dataclass
class SlurmConfig:
    """hydra/launcher=slurm: what each job of a sweep asks the cluster for, by submitit's names."""

    partition: str = ""  # where jobs run; "": the cluster's default
    account: str = ""  # whose time they use; "": the user's default
    qos: str = ""  # quality of service
    constraint: str = ""  # features that a node must have
    timeout_min: int = 60  # minutes after which a job saves and goes back into the queue
    max_num_timeout: int = 20  # how often it may go back
    signal_delay_s: int = 120  # seconds before its limit at which a job is told to save
    nodes: int = 1  # of one job: more than one share each mini-batch of its runs
    tasks_per_node: int = 1  # processes on a node that do so, too: one a GPU
    cpus_per_task: int = 2  # cores of a process
    mem_gb: float = 8.0  # memory of a node that a job may take, GiB
    gpus_per_node: int = 0  # GPUs of a job on each node
    array_parallelism: int = 256  # jobs at a time, at most
    setup: list[str] = field(default_factory=list)  # shell lines before a job, such as "module load cuda"
    additional_parameters: list[str] = field(default_factory=list)  # others of sbatch, such as "nodelist=n7"
    cluster: str = "slurm"  # local: jobs are processes of this machine, to try it without a cluster

    def __post_init__(self) -> None:
        between("hydra.launcher.timeout_min", self.timeout_min, 1, 1_000_000)
        between("hydra.launcher.max_num_timeout", self.max_num_timeout, 0, 10_000)
        between("hydra.launcher.signal_delay_s", self.signal_delay_s, 1, 60 * self.timeout_min)
        for name in ("nodes", "tasks_per_node", "cpus_per_task", "array_parallelism"):
            between(f"hydra.launcher.{name}", getattr(self, name), 1, 1_000_000)
        between("hydra.launcher.gpus_per_node", self.gpus_per_node, 0, 1_000)
        positive("hydra.launcher.mem_gb", self.mem_gb)
        one_of("hydra.launcher.cluster", self.cluster, ("slurm", "local"))
        alone = self.cluster == "slurm" or self.processes == 1
        check(
            alone,
            "hydra.launcher.cluster=local: one node and one task; for more on one machine there is torchrun",
        )
        for given in self.additional_parameters:
            check(
                "=" in given, f"hydra.launcher.additional_parameters={given}: written name=value, in quotes"
            )

    @property
    def processes(self) -> int:
        """Those that train a run together."""
        return self.nodes * self.tasks_per_node

    @property
    def additional(self) -> dict[str, str]:
        return dict(given.split("=", 1) for given in self.additional_parameters)


@dataclass
class RayConfig:
    """hydra/launcher=ray: where tasks go, and what each asks for."""

    address: str = "local"  # local: the cores of this machine; auto: the cluster it is part of; or HOST:PORT
    cpus_per_task: int = 1  # cores of a task
    gpus_per_task: float = 0.0  # GPUs of a task
    max_retries: int = 3  # how often a task starts again whose worker or node was lost
    stop_s: float = 60.0  # seconds that tasks have to save when the sweep is stopped

    def __post_init__(self) -> None:
        check(bool(self.address), "hydra.launcher.address: local, auto or HOST:PORT")
        between("hydra.launcher.cpus_per_task", self.cpus_per_task, 1, 1_000_000)
        not_negative("hydra.launcher.gpus_per_task", self.gpus_per_task)
        between("hydra.launcher.max_retries", self.max_retries, 0, 10_000)
        positive("hydra.launcher.stop_s", self.stop_s)
