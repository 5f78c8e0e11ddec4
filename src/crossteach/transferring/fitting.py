"""Do method, settings, labels and teachers of a transfer fit together? Told from these alone: no model is asked."""

from ..config import ContrastConfig, TransferConfig
from ..errors import ConfigError, DataError, MissingLabelsError
from ..functional.judging import FEWEST
from ..types import Splits
from .methods import Method, tuned_labels


def require_something_taught(data: Splits) -> None:
    """Raise DataError if there is neither a train split nor a pool."""
    if not data.taught:
        raise DataError(f"{data.spec!r} has no train split and there is no pool, so nothing teaches; add --pool DATA")


def require_method(name: str, method: Method, data: Splits, config: TransferConfig, n_teachers: int) -> None:
    """Raise if method, settings, labels and number of teachers do not fit together."""
    if method.teachers and not n_teachers:
        raise ConfigError(
            f"method {name!r} needs a teacher and none is given; name one, or use self, xe or self+labels"
        )
    at_once = n_teachers if config.curriculum.order == "parallel" else min(n_teachers, 1)
    _require_settings_that_fit(name, method, at_once, len(data.classes), config)
    if method.calibrated and data.selection.labels is None:
        raise MissingLabelsError(
            f"method {name!r} fits temperatures to labels of {_selection(data)}, which has none; "
            "use kl+dp-unsupervised, or give labels"
        )
    _require_labels_for_a_judge(name, method, data)
    _require_labels_for_the_gate(data, config)
    _require_batches(data, config)
    _require_tutors_for_pools(name, method, data, config)


def _require_settings_that_fit(
    name: str, method: Method, n_teachers: int, n_classes: int, config: TransferConfig
) -> None:
    if method.teachers and not method.frozen_student and n_teachers > 1:
        raise ConfigError(f"method {name!r} takes one teacher, not {n_teachers}; name one, or use kl+dp")
    weight = config.partition.kl_weight
    if weight is not None and method.targets is None:
        raise ConfigError(f"method {name!r} has no KL term, so partition.kl_weight={weight:g} means nothing; drop it")
    if weight is not None and weight < 1 and not method.labels:
        raise ConfigError(f"method {name!r} reads no labels, so partition.kl_weight must be 1, not {weight:g}")
    if method.features is None and config.contrast != ContrastConfig():
        raise ConfigError(
            f"method {name!r} compares no features, so contrast.* means nothing; drop it, or use cd or crd"
        )
    if method.features is not None and config.optim.part[0] == "head":
        raise ConfigError(
            f"method {name!r} teaches features, and optim.trains=head changes none; use last, lora or all"
        )
    margin, top = config.partition.margin, config.partition.top_classes
    if margin and not method.margin:
        raise ConfigError(f"method {name!r} knows no margin, so partition.margin={margin:g} means nothing; drop it")
    if top is not None and method.targets is None:
        raise ConfigError(f"method {name!r} has no KL term, so partition.top_classes={top} means nothing; drop it")
    if top is not None and top > n_classes:
        raise ConfigError(f"partition.top_classes={top} exceeds the {n_classes} classes; give fewer, or none for all")


def _require_labels_for_a_judge(name: str, method: Method, data: Splits) -> None:
    """Raise MissingLabelsError if there is nothing to learn from who is right."""
    tuned = tuned_labels(data)
    if method.judged and tuned < FEWEST:
        raise MissingLabelsError(
            f"method {name!r} learns who is right from {FEWEST} labelled samples or more, a quarter of "
            f"{_selection(data)}, and has {tuned}; use kl+dp-unsupervised, or give more labels"
        )


def _require_labels_for_the_gate(data: Splits, config: TransferConfig) -> None:
    asked = [f"gate.measure={config.gate.measure}"] if config.gate.measure != "accuracy" else []
    if config.gate.class_max_loss is not None:
        asked.append(f"gate.class_max_loss={config.gate.class_max_loss:g}")
    if asked and data.selection.labels is None:
        raise MissingLabelsError(
            f"{' and '.join(asked)} must count right answers by class, and {_selection(data)} has no labels; "
            "give labels, or drop it: the verdict is then 'unverified', with the evidence that needs none"
        )


def _require_batches(data: Splits, config: TransferConfig) -> None:
    """Raise ConfigError if batch norm in train mode would be given a single sample."""
    taught = sum(map(len, data.taught))
    if config.optim.train_statistics and min(config.optim.batch_size, taught) < 2:
        raise ConfigError(
            "optim.train_statistics=true normalises by each batch, which needs two samples or more; "
            f"there are {taught} to teach on, and optim.batch_size is {config.optim.batch_size}"
        )


def require_shared_batches(name: str, method: Method, config: TransferConfig, devices: int) -> None:
    """Raise ConfigError if a batch must be seen whole, and several devices or passes would see parts of it."""
    if config.compute.shard:
        _require_shards(name, method, config, devices)
    if method.features is not None and config.compute.compile:
        raise ConfigError(f"method {name!r} reads features on the way, which compute.compile=true hides; drop it")
    shared = [f"{devices} devices"] if devices > 1 else []
    shared += [f"optim.accumulate={config.optim.accumulate}"] if config.optim.accumulate > 1 else []
    if not shared:
        return
    parts = " and ".join(shared)
    if method.features is not None:
        raise ConfigError(
            f"method {name!r} compares all samples of a batch with each other, and {parts} would see parts of it; "
            "use one device and no accumulation, or a method on answers, as kl+dp"
        )
    if config.optim.train_statistics:
        raise ConfigError(
            f"optim.train_statistics=true normalises by the whole batch, and {parts} would see parts of it; "
            "use one device and no accumulation, or keep the student's statistics (the default)"
        )


def _require_shards(name: str, method: Method, config: TransferConfig, devices: int) -> None:
    """Raise ConfigError if a training cannot be divided."""
    if devices == 1:
        raise ConfigError("compute.shard=true divides a training among devices, and there is one; add --devices N")
    unfit = {
        f"method {name!r}, which averages weights on the way": method.slow_weights,
        f"optim.trains={config.optim.trains}, which needs little memory": config.optim.part[0] == "lora",
        "compute.compile=true": config.compute.compile,
        "optim.precision=float16, whose gradients are scaled": config.optim.precision == "float16",
    }
    for what, asked in unfit.items():
        if asked:
            raise ConfigError(f"compute.shard=true does not go with {what}; drop one of them")


def _require_tutors_for_pools(name: str, method: Method, data: Splits, config: TransferConfig) -> None:
    """Raise ConfigError if a method has nothing to say of samples without a label."""
    if not data.pools or (not config.pool.share and len(data.train)):
        return
    if method.targets is None or method.features is not None:
        raise ConfigError(
            f"method {name!r} learns from labels, and the samples of a pool have none; drop the pool, set pool.share=0 "
            "(as for a control), or use xe+dp, kl+dp-unsupervised or kl"
        )


def require_order(data: Splits, config: TransferConfig, n_teachers: int) -> None:
    """Raise an error if several teachers cannot teach one by one in the order, or in the epochs, that are asked for."""
    if config.curriculum.order == "parallel" or n_teachers < 2:
        return
    epochs = config.optim.epochs
    if config.curriculum.budget == "total" and epochs < n_teachers:
        raise ConfigError(
            f"curriculum.budget=total shares optim.epochs={epochs} among {n_teachers} teachers, which need one each; "
            f"give optim.epochs={n_teachers} or more, or curriculum.budget=each"
        )
    wanted = config.curriculum.order == "sequential" and config.curriculum.sequence != "given"
    if wanted and data.selection.labels is None:
        raise MissingLabelsError(
            f"curriculum.sequence={config.curriculum.sequence} needs labels on {_selection(data)}, which has none; "
            "use given"
        )


def _selection(data: Splits) -> str:
    """Name the selection split in a message: a user who gave none does not know of one."""
    return "the part of train that is set aside to decide" if data.selection_seen else "the selection split"
