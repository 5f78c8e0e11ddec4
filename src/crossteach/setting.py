"""What a transfer is about, opened and checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .check import require_better_than_chance, require_channels, require_label_space, require_test_labels
from .config import TransferConfig
from .errors import ConfigError
from .methods import Method, choose_method
from .prediction import predict
from .store import Store
from .types import Classifier, Progress, Splits, TrainableClassifier


@dataclass(frozen=True)
class Setting:
    """What a transfer is about, opened and checked."""

    student: TrainableClassifier
    teachers: tuple[Classifier, ...]
    data: Splits
    config: TransferConfig
    method_name: str
    method: Method
    store: Store
    progress: Progress
    notes: list[str] = field(default_factory=list)

    @property
    def tutor_names(self) -> tuple[str, ...]:
        """The names of those that the method asks."""
        frozen = ("frozen student",) if self.method.frozen_student else ()
        return (*frozen, *(t.name for t in self.teachers)) if self.method.teachers else frozen

    @property
    def tutors(self) -> tuple[Classifier, ...]:
        """Those that the method asks, the frozen student first."""
        frozen = (self.student,) if self.method.frozen_student else ()
        return (*frozen, *self.teachers) if self.method.teachers else frozen


def open_setting(
    student: TrainableClassifier,
    teachers: Sequence[Classifier],
    data: Splits,
    config: TransferConfig,
    store: Store,
    progress: Progress,
) -> Setting:
    """Check that models, data and method fit together, before anything is trained or written.

    Raises:
        LabelSpaceError: If models and data do not share their classes.
        MissingLabelsError: If the method reads labels that the data do not have.
        ConfigError: If the method is unknown, or needs a teacher and has none.
        ModelError: If the student answers like chance.
    """
    name, method = choose_method(config.method, data.train.labels is not None)
    if method.teachers and not teachers:
        raise ConfigError(
            f"method {name!r} needs a teacher and none is given; name one, or use self, xe or self+labels"
        )
    require_test_labels(data)
    for classifier in (student, *teachers):
        require_label_space(classifier, data)
        require_channels(classifier, data)
    notes = [*data.notes, *(note for c in (student, *teachers) for note in getattr(c, "notes", ()))]
    if not config.force:
        require_better_than_chance(predict(student, data.selection, store, progress), student.spec)
    return Setting(student, tuple(teachers), data, config, name, method, store, progress, notes)


def describe(setting: Setting) -> dict[str, Any]:
    """Everything that the result depends on."""
    return {
        "command": "transfer",
        "student": {"spec": setting.student.spec, "fingerprint": setting.student.fingerprint},
        "teachers": [{"spec": t.spec, "fingerprint": t.fingerprint} for t in setting.teachers],
        "data": {"spec": setting.data.spec, "fingerprint": setting.data.fingerprint},
        "method": setting.method_name,
        "device": setting.student.device.type,
        "config": setting.config.to_dict(),
    }
