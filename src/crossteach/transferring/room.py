"""What a transfer will write into the store: whether there is room for it is asked before any model is."""

from collections.abc import Sequence

from ..answers.layout import Layout
from ..answers.prediction import count_unanswered
from ..answers.store import Store
from ..answers.tutors import count_missing, layout_for
from ..config import TransferConfig
from ..data.views import Views
from ..types import Classifier, Splits
from .sources import planned_steps, sources_of


def bytes_to_store(
    models: Sequence[Classifier],
    tutors: Sequence[Classifier],
    data: Splits,
    views: Views,
    config: TransferConfig,
    store: Store,
) -> int:
    """Return about how many bytes the answers take that a transfer asks for and the store does not know.

    Args:
        models: Student and teachers: they answer on the plain samples of selection and test.
        tutors: Those that answer on the views of what is taught.
        data: The splits.
        views: Of train.
        config: Says which views are shown.
        store: Nothing is made in it.
    """
    plain = sum(
        count_unanswered(model, split, store) * Layout("float32", model.n_classes).row_bytes
        for model in models
        for split in (data.selection, data.test)
    )
    one_by_one = config.curriculum.order != "parallel" and len(models) > 2  # each lesson looks for itself
    if not views.count or config.views.live or one_by_one:
        return plain
    sources = sources_of(data, views, config)
    steps = planned_steps(sources, config.optim)
    shown = 0
    for source in sources:
        numbers = source.views.shown(source.passes(steps))
        for tutor in tutors:
            missing = count_missing(tutor, source.split, source.views, store)
            row_bytes = layout_for(tutor, source.split, source.views, store).row_bytes
            shown += sum(missing[number] for number in numbers) * row_bytes
    return plain + shown
