"""Files of black boxes for the tests: modules as they are exported, and ONNX graphs made by hand."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

Dims = Sequence[int | str | None]


def to_onnx(
    module: nn.Module, path: Path, shape: tuple[int, int, int], batch: int | None = None, any_size: bool = False
) -> str:
    """Export a module; return its spec. The batch is fixed where it is given, the size unless any is taken."""
    axes = {} if batch else {"pixels": {0: "n", **({2: "h", 3: "w"} if any_size else {})}, "scores": {0: "n"}}
    names = {"input_names": ["pixels"], "output_names": ["scores"], "dynamic_axes": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the old exporter; the new one needs onnxscript
        torch.onnx.export(module.eval(), (torch.rand(batch or 2, *shape),), path, dynamo=False, **names)
    return f"onnx:{path}"


def to_torchscript(module: nn.Module, path: Path, shape: tuple[int, int, int] | None = None, batch: int = 2) -> str:
    """Save a module as TorchScript: traced for a shape, else scripted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(module) if shape is None else torch.jit.trace(module, torch.rand(batch, *shape))
        torch.jit.save(script, path)
    return f"torchscript:{path}"


def to_export(module: nn.Module, path: Path, shape: tuple[int, int, int], batch: int | None = None) -> str:
    """Save a module as an exported program."""
    dynamic = None if batch else ({0: torch.export.Dim("n")},)
    program = torch.export.export(module, (torch.rand(batch or 2, *shape),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return f"export:{path}"


def linear_graph(
    path: Path,
    weight: np.ndarray,
    given: Dims,
    type: int = TensorProto.FLOAT,
    ends: Sequence[str] = (),
    outputs: Mapping[str, Dims] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write a graph that flattens its input and multiplies it; return its spec.

    Args:
        path: The file.
        weight: [D, C].
        given: The declared shape of the input.
        type: Of the input; other types than float are cast.
        ends: Operators behind the product.
        outputs: Names of values, and their declared shapes: `scores` is the last; `product`, `flat` stand before it.
        metadata: Keys and texts.
    """
    nodes = [helper.make_node("Flatten", ["pixels"], ["raw"])]
    nodes += [helper.make_node("Cast", ["raw"], ["flat"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("MatMul", ["flat", "weight"], ["product"])]
    last = "product"
    for number, operator in enumerate((*ends, "Identity")):
        name = "scores" if number == len(ends) else f"after{number}"
        nodes.append(helper.make_node(operator, [last], [name]))
        last = name
    shown = outputs or {"scores": ["n", weight.shape[1]]}
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("pixels", type, given)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shown.items()],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return f"onnx:{path}"
