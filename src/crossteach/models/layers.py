"""What a module is made of: its family, and its heads."""

from collections.abc import Iterator

from torch import nn

from ..types import Family

ATTENTION_SHARE = 0.3
"""Share of the layers that mix positions from which attention names the family: hybrids have less, or more."""
HEAD_COUNTS = ("num_heads", "n_heads", "num_attention_heads", "n_head", "nhead", "heads")
"""Where a module keeps how many attention heads it has."""
QUERIES = ("q", "query", "to_q", "to_query", "q_proj", "q_lin", "wq", "qk")
"""What a layer is called that makes queries; one for queries, keys and values together has `qkv` in its name."""


def family_of(module: nn.Module) -> Family:
    """Tell what mixes the positions of an image: attention, convolutions, or dense layers only.

    Attention is what has heads or makes queries, whatever its class is called. A convolution that only cuts patches
    (kernel no larger than its stride) mixes nothing, and one inside an attention belongs to it. Where both mix,
    `ATTENTION_SHARE` decides. A recurrent layer is of another family.
    """
    attentions = list(_attentions(module))
    inside = {id(part) for attention in attentions for part in attention.modules()}
    convolutions = [part for part in module.modules() if _mixes(part) and id(part) not in inside]
    if attentions and len(attentions) >= ATTENTION_SHARE * (len(attentions) + len(convolutions)):
        return "transformer"
    if any(isinstance(part, nn.RNNBase) for part in module.modules()):
        return "other"
    if convolutions or inside:
        return "convolutional"
    return "mlp" if any(isinstance(part, nn.Linear) for part in module.modules()) else "other"


def _attentions(module: nn.Module) -> Iterator[nn.Module]:
    """Find the innermost modules that attend."""
    within = [found for child in module.children() for found in _attentions(child)]
    if within:
        yield from within
    elif isinstance(module, nn.MultiheadAttention) or _attends(module):
        yield module


def _attends(module: nn.Module) -> bool:
    counts = (vars(module).get(name) for name in HEAD_COUNTS)
    heads = any(isinstance(count, int) and not isinstance(count, bool) for count in counts)
    queries = any("qkv" in name or name in QUERIES for name, _ in module.named_children())
    return (heads or queries) and any(True for _ in module.parameters())


def _mixes(layer: nn.Module) -> bool:
    """Tell whether a layer is a convolution whose outputs share inputs."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return False
    return any(k > s for k, s in zip(layer.kernel_size, layer.stride, strict=True))


def find_head(module: nn.Module, n_classes: int) -> nn.Module | None:
    """Return the last layer whose weight has a row for each class, if there is one."""
    named = _scoring_layers(module, n_classes)
    return named[-1][1] if named else None


def find_heads(module: nn.Module, n_classes: int) -> list[nn.Module]:
    """Return every head of a module: the last layer that scores the classes, and those that stand beside it.

    A distilled transformer has two, whose scores are averaged. A layer stands beside the head if its name differs in
    one place only, the two follow each other there with no other weights between them, and neither can feed the
    other: they are no part of one Sequential, and the head does not read as many features as there are classes.
    """
    named = _scoring_layers(module, n_classes)
    if not named:
        return []
    last, head = named[-1]
    if _width(head) == n_classes:
        return [head]
    heads = [head]
    for name, layer in reversed(named[:-1]):
        if type(layer) is not type(head) or not _beside(module, name, last):
            break
        heads.insert(0, layer)
        last = name
    return heads


def _scoring_layers(module: nn.Module, n_classes: int) -> list[tuple[str, nn.Module]]:
    weighted = ((name, m, getattr(m, "weight", None)) for name, m in module.named_modules())
    return [(n, m) for n, m, w in weighted if isinstance(w, nn.Parameter) and w.ndim > 1 and w.shape[0] == n_classes]


def _width(layer: nn.Module) -> int:
    """Return how many features a layer reads."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    return weight.shape[1]


def _beside(module: nn.Module, first: str, second: str) -> bool:
    """Tell whether two layers stand in parallel: at the same place of two neighbours."""
    paths = first.split("."), second.split(".")
    different = [place for place, (a, b) in enumerate(zip(*paths, strict=False)) if a != b]
    if len(paths[0]) != len(paths[1]) or len(different) != 1:
        return False
    place = different[0]
    parent = module.get_submodule(".".join(paths[0][:place]))
    weighted = [name for name, child in parent.named_children() if any(True for _ in child.parameters())]
    near = weighted.index(paths[1][place]) - weighted.index(paths[0][place]) == 1
    return near and not isinstance(parent, nn.Sequential)
