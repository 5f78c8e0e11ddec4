"""The state of a training, and the optimiser. A resumed training goes on bit for bit."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..config import TransferConfig
from ..functional.averaging import SlowWeights, State, snapshot
from ..models.scoring import DTYPES
from ..types import TrainableClassifier
from .optimisers import SGD, AdamW
from .plan import TrainingPlan
from .sharding import divide_optimiser, gathered_optimiser, learning_parts

MCL_TOTAL = 0.6
"""What τ to the power of all updates is by default: 0.9999 over the 5,000 updates of the paper."""


@dataclass
class TrainingState:
    """Everything that a resumed training needs."""

    step: int = 0
    """Steps that are done."""
    weights: State = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    slow: State | None = None
    """The slow average of the weights, where the method keeps one."""
    contrast: State = field(default_factory=dict)
    """What a loss on features has learnt and remembers."""
    random: list[Tensor] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    """One for each epoch that is done."""
    taught: Float[Tensor, " T"] | None = None
    """Samples that each tutor has taught, and the label last."""
    taught_of_pools: Float[Tensor, " T"] | None = None
    """The same of pool samples alone."""
    epoch_loss: Float[Tensor, ""] | None = None
    """Sum over the steps of the epoch under way."""
    epoch_seconds: float = 0.0
    """Spent on the epoch under way."""
    diverged: str = ""
    """Why the training stopped early; empty while it is well."""


FLOOR = 1e-6
"""Of AdamW's denominator (`eps`). AdamW moves a weight by the rate however small its gradient is: at torch's 1e-8 what
hardly a sample shows moves as far as what all of them show, and the student forgets it (docs/published_models.md)."""


class Optimisation:
    """All parts of a training step that have a state: optimiser, loss scaling, slow weights, a loss on features."""

    def __init__(
        self,
        student: TrainableClassifier,
        plan: TrainingPlan,
        weights: list[nn.Parameter],
        devices: int = 1,
        learner: nn.Module | None = None,
    ) -> None:
        """Set up the optimiser.

        Args:
            student: Its module is moved.
            plan: Settings and length of the training.
            weights: Those of the student that learn.
            devices: How many processes share each batch; their gradients are averaged.
            learner: The divided copy that learns in the place of the student's module, if there is one.
        """
        optim, self._module, self._clip = plan.config.optim, student.module, plan.config.optim.clip
        self.device = student.device
        self.precision = _precision(plan.config, self.device)
        self.contrast: nn.Module | None = None
        if plan.features is not None and plan.method.features is not None:
            made = plan.method.features.make(*plan.features.widths, plan.config.contrast)
            self.contrast = made.to(self.device)
        self._learner = learner
        weights = weights if learner is None else learning_parts(learner)
        self._learning = [*weights, *(self.contrast.parameters() if self.contrast is not None else ())]
        self._optimiser: torch.optim.Optimizer
        if plan.optimiser == "adamw":
            groups = _by_rate(
                self._learning, tables_of(learner or student.module), (plan.table_lr or plan.lr) / plan.lr
            )
            self._optimiser = AdamW(groups, lr=plan.lr, eps=FLOOR, weight_decay=optim.weight_decay)
        else:
            self._optimiser = SGD(self._learning, lr=plan.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.slow = _slow_weights(student.module, plan)
        self._devices = devices

    def add(self, loss: Float[Tensor, ""]) -> None:
        """Add the gradient of a part of the batch's loss."""
        loss = loss if self._devices == 1 else loss * self._devices  # the mean over devices is then the sum
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, rate: float, number: int) -> None:
        """Move the weights against the gradient that was added up; `number` counts steps from 0."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group.get("times", 1.0)
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self._learning, self._clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        if self.slow is not None:
            self.slow.update(self._module, number + 1)

    def write_to(self, state: TrainingState) -> None:
        """Put weights, optimiser and random numbers into the state."""
        state.weights = snapshot(self._module)
        state.optimiser = (
            self._optimiser.state_dict()
            if self._learner is None
            else gathered_optimiser(self._learner, self._optimiser)
        )
        state.scaler = self._scaler.state_dict()
        state.slow = self.slow.state if self.slow is not None else None
        state.contrast = {} if self.contrast is None else snapshot(self.contrast)
        gpu = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        state.random = [torch.get_rng_state(), *gpu]

    def read_from(self, state: TrainingState) -> None:
        """Take weights, optimiser and random numbers from the state."""
        self._module.load_state_dict(state.weights)
        state.weights = snapshot(self._module)  # on the module's device again
        if self._learner is None:
            self._optimiser.load_state_dict(state.optimiser)
        else:
            divide_optimiser(self._learner, self._optimiser, state.optimiser)
        if state.scaler:
            self._scaler.load_state_dict(state.scaler)
        if self.contrast is not None:
            self.contrast.load_state_dict(state.contrast)
        if self.slow is not None and state.slow is not None:
            own = self.slow.state
            self.slow.state = {name: value.to(own[name].device).clone() for name, value in state.slow.items()}
            state.slow = self.slow.state
        cpu, *gpu = state.random
        torch.set_rng_state(cpu)
        if gpu:
            torch.cuda.set_rng_state(gpu[0], self.device)


FEWEST_ROWS = 1000
"""An embedding with fewer rows, of positions or letters, meets each of them in most batches: it is no table."""


def tables_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the embedding tables that learn: of words or n-grams, of which a batch meets few rows.

    Weights that something else has too, as a head that is tied to them, meet every sample and are none.

    Example:
        >>> [len(table) for table in tables_of(nn.ModuleList([nn.Embedding(5000, 4), nn.Embedding(512, 4)]))]
        [5000]
    """
    kinds: dict[nn.Parameter, set[bool]] = {}
    for part in module.modules():
        for weight in part.parameters(recurse=False):
            kinds.setdefault(weight, set()).add(isinstance(part, nn.Embedding | nn.EmbeddingBag))
    return [w for w, found in kinds.items() if found == {True} and w.requires_grad and len(w) >= FEWEST_ROWS]


def _by_rate(learning: list[nn.Parameter], tables: list[nn.Parameter], times: float) -> list[dict[str, Any]]:
    """Let the tables learn at so many times the rate of the other weights."""
    apart = {id(table) for table in tables} if times != 1 else set()
    parts = [[w for w in learning if (id(w) in apart) is own] for own in (False, True)]
    return [{"params": part, "times": own} for part, own in zip(parts, (1.0, times), strict=True) if part]


def _precision(config: TransferConfig, device: torch.device) -> torch.dtype:
    wanted = config.optim.precision
    if wanted == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return DTYPES[wanted]


def _slow_weights(module: nn.Module, plan: TrainingPlan) -> SlowWeights | None:
    if not plan.method.slow_weights:
        return None
    every, momentum = plan.config.partition.slow_every, plan.config.partition.slow_momentum
    updates = max(1, plan.steps // every)
    return SlowWeights(module, MCL_TOTAL ** (1 / updates) if momentum is None else momentum, every)
