"""The settings of a transfer: frozen dataclasses, checked when they are made; every field is a `--set` key."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from .errors import ConfigError

PARTS = ("all", "norm", "last", "head", "lora")
ADAPTER_RANK = 8
"""Of adapters, where none is given."""
ScoringPrecision = Literal["float32", "bfloat16", "float16"]
Precision = Literal["auto", ScoringPrecision]


def _require(condition: bool, what: str, value: object) -> None:
    if not condition:
        raise ConfigError(f"{what}, not {value!r}")


def require_one_of(known: Collection[str], key: str, value: str) -> None:
    """Raise ConfigError if a word is not one of those that are known."""
    _require(value in known, f"{key} must be one of {', '.join(known)}", value)


def _read_part(trains: str) -> tuple[str, int]:
    """Take `optim.trains` apart: the part that learns, and the rank of its adapters."""
    part, colon, rank = trains.partition(":")
    ranked = not colon or (part == "lora" and rank.isdigit() and int(rank) > 0)
    _require(part in PARTS and ranked, f"optim.trains must be one of {', '.join(PARTS)} or lora:RANK", trains)
    return part, int(rank or ADAPTER_RANK)


OPTIMISERS = ("auto", "sgd", "adamw")
PROBE_RATES = {"sgd": (0.003, 0.01), "adamw": (0.0001, 0.0003, 0.001)}
"""What the probe tries of each optimiser, unless a config says it."""


@dataclass(frozen=True)
class OptimConfig:
    """How the student is trained."""

    epochs: int = 8
    """Passes over the transfer set, or over the largest part of it where it has several (train, pools)."""
    steps: int | None = None
    """Length of the training in steps; None is `epochs`."""
    lr: float | None = None
    """Peak learning rate; None asks a short probe on the tune part of the selection split."""
    table_lr: float | None = None
    """Peak rate of embedding tables under AdamW: a row meets few samples, and bears more than other weights. None is
    found by the probe like `optim.lr`, or equals it where that is given."""
    batch_size: int = 128
    """Samples a step, on all devices together; the rate does not depend on it."""
    accumulate: int = 1
    """Parts in which a device takes its share of a batch, one after the other: less memory, the same gradient."""
    optimiser: str = "auto"
    """sgd, adamw, or auto: adamw for a student that reads text, whose tokens each meet few samples, else sgd."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 0.0
    """Above 0 it pulls the student away from what it knows."""
    warmup: float = 0.05
    """Share of the steps over which the rate rises from 0."""
    schedule: str = "cosine"
    """What the rate does then: it falls to 0 along a cosine, or stays (constant)."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    stop_below: float = 0.5
    """Share of where it began below which accuracy on the tune part (without labels: agreement with whichever of old
    student and teachers it agrees with most) stops the training as diverged; 0 stops at what is not finite only."""
    trains: str = "all"
    """Which weights learn: all, norm, last (the last block and the head), head, or lora:RANK (adapters; extra peft)."""
    train_statistics: bool = False
    """Whether dropout, drop-path and batch norm run in train mode; by default they stay as in evaluation."""
    precision: Precision = "auto"
    """auto: float32 on CPU, bfloat16 on a GPU that has it, else float16 with loss scaling."""
    probe_rates: tuple[float, ...] | None = None
    """Learning rates the probe tries, ascending; what ends best is taken, and where pools teach the highest borne. None
    is 0.003 and 0.01 of SGD, 0.0001, 0.0003 and 0.001 of AdamW."""
    probe_steps: int = 50
    """Steps the probe gives each rate."""

    @property
    def part(self) -> tuple[str, int]:
        """The part that learns, and the rank of its adapters."""
        return _read_part(self.trains)

    def __post_init__(self) -> None:
        _read_part(self.trains)
        require_one_of(("cosine", "constant"), "optim.schedule", self.schedule)
        _require(self.epochs >= 1, "optim.epochs must be at least 1", self.epochs)
        _require(self.steps is None or self.steps >= 1, "optim.steps must be at least 1, or none", self.steps)
        for name, rate in (("lr", self.lr), ("table_lr", self.table_lr)):
            _require(rate is None or 0 < rate < math.inf, f"optim.{name} must be above 0", rate)
        _require(self.batch_size >= 1, "optim.batch_size must be at least 1", self.batch_size)
        _require(self.accumulate >= 1, "optim.accumulate must be at least 1", self.accumulate)
        _require(0 <= self.momentum < 1, "optim.momentum must lie in [0, 1)", self.momentum)
        _require(0 <= self.weight_decay < math.inf, "optim.weight_decay must be at least 0", self.weight_decay)
        _require(0 <= self.warmup < 1, "optim.warmup must lie in [0, 1)", self.warmup)
        _require(0 <= self.stop_below < 1, "optim.stop_below must lie in [0, 1)", self.stop_below)
        _require(0 < self.clip < math.inf, "optim.clip must be above 0", self.clip)
        require_one_of(get_args(Precision), "optim.precision", self.precision)
        require_one_of(OPTIMISERS, "optim.optimiser", self.optimiser)
        rates = self.probe_rates
        _require(
            rates is None
            or (len(rates) > 0 and 0 < min(rates) <= max(rates) < math.inf and list(rates) == sorted(set(rates))),
            "optim.probe_rates must rise and be above 0",
            rates,
        )
        _require(self.probe_steps >= 1, "optim.probe_steps must be at least 1", self.probe_steps)


@dataclass(frozen=True)
class ViewsConfig:
    """What the student and its tutors are shown."""

    count: int = 4
    """Views of each sample, shown in turn; 0 draws fresh ones and runs the tutors live."""
    first: int = 0
    """Which view the first epoch shows; of several lessons each begins after the epochs planned for those before."""
    augmentation: str = "auto"
    """warp, crop, none, FILE.py:FUNCTION, or auto: what suits the data."""
    strength: float = 0.5
    """Scales how far a view departs from its sample; 1 is what models are commonly trained with."""
    seed: int = 0
    """Of the views; the run's own seed only orders the samples, so that all seeds share the stored answers."""
    live: bool = False
    """Run the tutors in every step instead of reading their answers from the store."""

    def __post_init__(self) -> None:
        _require(self.count >= 0, "views.count must be at least 0", self.count)
        _require(0 <= self.first < 2**31, "views.first must lie in [0, 2**31)", self.first)
        _require(0 <= self.seed < 2**31, "views.seed must lie in [0, 2**31)", self.seed)
        _require(0 <= self.strength <= 5, "views.strength must lie in [0, 5]", self.strength)


@dataclass(frozen=True)
class PoolConfig:
    """How pools of unlabelled samples teach beside train."""

    share: float = 0.75
    """Share of each batch that pools fill, divided by their sizes; 0 leaves them out. Where train is empty it is 1."""
    views: int = 2
    """Views of each pool sample, shown in turn; `views` says how they are drawn."""
    drop_below: float = 0.05
    """A pool sample is left out as foreign if the tutors' ensemble is less sure of it than of this share of selection,
    and more than twice this share of the pool is so strange; 0 keeps all."""
    probe_rate: float | None = 0.03
    """Where pools teach, a learning rate of SGD beside `optim.probe_rates`; the highest of them that the student bears
    for `optim.probe_steps` is taken. None adds none."""

    def __post_init__(self) -> None:
        _require(0 <= self.share <= 1, "pool.share must lie in [0, 1]", self.share)
        _require(self.views >= 1, "pool.views must be at least 1", self.views)
        _require(0 <= self.drop_below < 1, "pool.drop_below must lie in [0, 1)", self.drop_below)
        rate = self.probe_rate
        _require(rate is None or 0 < rate < math.inf, "pool.probe_rate must be above 0, or none", rate)


@dataclass(frozen=True)
class PartitionConfig:
    """How the loss compares the student with its tutors, and who teaches."""

    temperature: float = 1.0
    """T of the KL term."""
    kl_weight: float | None = None
    """Weight of KL against cross-entropy; None is the method's own."""
    slow_momentum: float | None = None
    """τ of the slow weights; None makes τ to the power of all updates 0.6, as in the paper's 10,000 steps."""
    slow_every: int = 2
    """Steps between two updates of the slow weights."""
    margin: float = 0.0
    """Probability by which a teacher must exceed the frozen student to teach a sample; 0 is the paper's rule."""
    top_classes: int | None = None
    """Largest classes of the target that KL keeps apart, all others added up; None keeps all apart."""
    keep_absent: bool = True
    """Whether classes that neither labels nor pools show keep the probability that the old student gives them."""

    def __post_init__(self) -> None:
        _require(0 < self.temperature < math.inf, "partition.temperature must be above 0", self.temperature)
        _require(
            self.kl_weight is None or 0 <= self.kl_weight <= 1, "partition.kl_weight must lie in [0, 1]", self.kl_weight
        )
        _require(
            self.slow_momentum is None or 0 <= self.slow_momentum <= 1,
            "partition.slow_momentum must lie in [0, 1]",
            self.slow_momentum,
        )
        _require(self.slow_every >= 1, "partition.slow_every must be at least 1", self.slow_every)
        _require(0 <= self.margin < 1, "partition.margin must lie in [0, 1)", self.margin)
        top = self.top_classes
        _require(top is None or top >= 1, "partition.top_classes must be at least 1, or none", top)


@dataclass(frozen=True)
class ContrastConfig:
    """How features are compared; read by the methods cd and crd only."""

    student_layer: str = "auto"
    """Where the student's features are: a name of named_modules(), or auto, the input of its head."""
    teacher_layer: str = "auto"
    """The same of the teacher."""
    temperature: float = 0.07
    """Of cosine similarities."""
    width: int = 128
    """Of crd's projections."""
    negatives: int = 4096
    """Samples that crd remembers."""

    def __post_init__(self) -> None:
        _require(0 < self.temperature < math.inf, "contrast.temperature must be above 0", self.temperature)
        _require(self.width >= 1, "contrast.width must be at least 1", self.width)
        _require(self.negatives >= 1, "contrast.negatives must be at least 1", self.negatives)


@dataclass(frozen=True)
class GateConfig:
    """When the gate accepts the new weights."""

    max_loss: float = 0.3
    """Points of accuracy that the lower bound may fall below zero."""
    level: float = 0.9
    """One-sided confidence of that bound."""
    alphas: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Points on the straight path from the old weights (0) to the new (1)."""
    measure: str = "accuracy"
    """What the gate measures: accuracy, or balanced accuracy (balanced), in which every class counts the same."""
    class_max_loss: float | None = None
    """Points that no single class may be shown to lose; None asks nothing of single classes."""
    unseen_group: float = 4.0
    """Where samples have groups: points by which a group that is not on the gate part may differ from those that are.

    The fewer groups decide, the more a gain must be: 1.5 points of 5 groups, 0.1 of 20."""
    ask: bool = True
    """Whether the gate is asked; if not, the end of training is returned, unverified."""

    def __post_init__(self) -> None:
        require_one_of(("accuracy", "balanced"), "gate.measure", self.measure)
        _require(
            self.class_max_loss is None or 0 < self.class_max_loss <= 100,
            "gate.class_max_loss must lie in (0, 100] points",
            self.class_max_loss,
        )
        _require(0 <= self.max_loss <= 100, "gate.max_loss must lie in [0, 100] points", self.max_loss)
        _require(0 <= self.unseen_group <= 100, "gate.unseen_group must lie in [0, 100] points", self.unseen_group)
        _require(0.5 < self.level < 1, "gate.level must lie in (0.5, 1)", self.level)
        inside = len(self.alphas) > 0 and all(0 < alpha <= 1 for alpha in self.alphas)
        _require(
            inside and list(self.alphas) == sorted(set(self.alphas)), "gate.alphas must rise within (0, 1]", self.alphas
        )


@dataclass(frozen=True)
class CurriculumConfig:
    """How a student learns from several teachers."""

    order: str = "parallel"
    """parallel (each sample asks all of them), sequential (one after the other), soup (singly, then averaged)."""
    sequence: str = "given"
    """Of sequential: given, ascending or descending (by accuracy on the tune part), scout (by predicted gain there)."""
    average: str = "greedy"
    """Of soup: greedy (the best student, then each that does not lower the tune part), uniform (all that learnt)."""
    budget: str = "each"
    """each: every lesson has optim.epochs; total: the lessons share them, as one lesson from all teachers would."""

    def __post_init__(self) -> None:
        require_one_of(("parallel", "sequential", "soup"), "curriculum.order", self.order)
        require_one_of(("given", "ascending", "descending", "scout"), "curriculum.sequence", self.sequence)
        require_one_of(("greedy", "uniform"), "curriculum.average", self.average)
        require_one_of(("each", "total"), "curriculum.budget", self.budget)


@dataclass(frozen=True)
class ScoringConfig:
    """How models are run to get their answers."""

    batch: int | None = None
    """Images at once: 1, 2, 4, 8, 16, 32, 64 or 128; None takes as many as a model's cost allows on a CPU, else 128.
    The last batch is padded, so that a sample's answer does not depend on what stands beside it."""
    precision: ScoringPrecision = "float32"
    """In which models of torch are asked, student and tutors alike: bfloat16 and float16 (by autocast) are faster on
    GPUs, and answers that are nearly equal may change places. What is stored, taught and reported are these answers."""

    def __post_init__(self) -> None:
        require_one_of(get_args(ScoringPrecision), "scoring.precision", self.precision)
        sizes = [1 << power for power in range(8)]
        fits = self.batch is None or self.batch in sizes
        _require(fits, f"scoring.batch must be one of {', '.join(map(str, sizes))}, or none", self.batch)


@dataclass(frozen=True)
class StoreConfig:
    """How the tutors' answers are kept."""

    keep: str = "auto"
    """dense (every logit, in float16), or how many of a row's largest logits are kept beside the sum of the others (as
    20), or auto: dense, but 20 of more than 100 classes where a view of a tutor would take more than 1 GiB, or than
    a 64th of the store's budget. What is kept is what the student is taught, also where tutors are run live."""

    def __post_init__(self) -> None:
        counted = self.keep.isascii() and self.keep.isdigit() and int(self.keep) > 0
        _require(
            self.keep in ("auto", "dense") or counted,
            "store.keep must be auto, dense or how many logits of a row are kept",
            self.keep,
        )


@dataclass(frozen=True)
class ComputeConfig:
    """How a training step is computed: its speed and memory, not what is learnt; `optim.precision` belongs here too."""

    compile: bool = False
    """Whether torch.compile makes the student's passes: minutes at first, faster steps on a GPU; needs a compiler."""
    channels_last: bool = False
    """Whether a student of 2d convolutions holds channels last in memory: faster on a GPU in half precision."""
    shard: bool = False
    """Whether several devices divide the student's training among them (FSDP2): for one that fits none of them."""
    checkpointing: bool = False
    """Whether activations are computed anew in the backward pass instead of kept; timm and transformers offer it."""


@dataclass(frozen=True)
class TransferConfig:
    """Everything that decides what a transfer computes."""

    method: str = "auto"
    """A name of methods.METHODS; auto takes the default for data with, or without, labels."""
    seed: int = 0
    """Of the order of samples."""
    time_budget: float | None = None
    """Minutes; lowers the number of epochs to what fits."""
    force: bool = False
    """Go on with models that the checks refuse (like chance, unsteady, other order of classes); notes say which."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**31, "seed must lie in [0, 2**31)", self.seed)
        _require(
            self.time_budget is None or 0 < self.time_budget < math.inf,
            "time_budget must be above 0",
            self.time_budget,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dictionaries."""
        return asdict(self, dict_factory=_plain)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}


SCORING = 2
"""Raised when another batch is chosen for a model: the store's answers of another number are never read."""
PROCEDURE = 10
"""Raised when defaults or rules change what a run of the same settings computes.

It is kept in every run folder, and a run of another procedure is refused there. Sweeps do their jobs anew.
"""
