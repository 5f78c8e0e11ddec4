"""The kinds of bad input, each made of good files that crossteach itself and the usual libraries have written."""

import contextlib
import gzip
import io
import json
import os
import pickle
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_mutations import MARKUP, VALUES, WORDS, changed_bytes, changed_json, changed_text, changed_value

CLASSES = ("cat", "dog", MARKUP)
ZOO = """import torch


def small(width: int = 4):
    layers = torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 3)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)
"""


@dataclass(frozen=True)
class Case:
    """One case to be made."""

    folder: Path
    """Empty; the case's files go here."""
    good: Path
    """The good files; see `make_good`."""
    canary: Path
    """What code in a file would write, if it ran."""
    rng: random.Random

    def file(self, name: str, content: bytes) -> Path:
        """Write a file of the case."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def text(self, name: str) -> str:
        """Read a good file."""
        return (self.good / name).read_text(encoding="utf-8")

    def bytes(self, name: str) -> bytes:
        """Read a good file."""
        return (self.good / name).read_bytes()

    def copy(self, name: str, *changed: str) -> Path:
        """Copy a good folder, with one of these of its files changed."""
        target = self.folder / name
        shutil.copytree(self.good / name, target)
        victim = target / self.rng.choice(changed)
        change: Any = changed_json if victim.suffix == ".json" else None
        content = victim.read_bytes()
        victim.write_bytes(change(content.decode(), self.rng) if change else changed_bytes(content, self.rng))
        return target

    def code(self) -> str:
        """Return Python that betrays that it was run."""
        return f"import pathlib\npathlib.Path({str(self.canary)!r}).write_text('code ran')\n"

    def evil(self) -> "Evil":
        """Return an object that runs code when it is unpickled."""
        return Evil(self.canary)


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._canary),)


Kind = Callable[[Case], Callable[[], object]]
"""Writes a case's files; returns what opens them."""


def touch(spec: str, *pools: str) -> None:
    """Open data and read some samples of every split."""
    import crossteach

    data = crossteach.load_data(spec, pools)
    for split in (data.train, data.selection, data.test, *(pool.split for pool in data.pools)):
        if len(split):
            split.inputs.read(split.input_rows(np.arange(min(3, len(split)))), (8, 8), None)


def answer(spec: str) -> None:
    """Open a model, and ask it."""
    import torch

    import crossteach

    model = crossteach.load_model(spec)
    if model.preprocess.kind == "image":
        model.logits(torch.zeros(2, model.preprocess.channels or 1, *(model.preprocess.size or (8, 8))))


# ------------------------------------------------------------------------------------------------ specs and settings
def specs_of_data(case: Case) -> Callable[[], object]:
    """Strings that should name data."""
    schemes = ("npz", "csv", "wds", "folder", "idx", "hf", "sklearn", "glyphs", "nps", "", "http")
    rests = (
        f"{case.good}/data.npz",
        f"{case.good}/list.csv",
        f"{case.good}",
        f"{case.good}/shards/*.tar",
        "digits",
        "none",
    )
    spec = _spec(case, schemes, rests, DATA_OPTIONS)
    return lambda: touch(spec)


def specs_of_models(case: Case) -> Callable[[], object]:
    """Strings that should name models; no name of a module is drawn, for what a user names runs."""
    schemes = (
        "timm",
        "torchvision",
        "hf",
        "onnx",
        "run",
        "demo",
        "clip",
        "torchscript",
        "export",
        "predictions",
        "tim",
        "",
    )
    rests = (
        *(
            f"{case.good}/vit",
            f"{case.good}/model.onnx",
            f"{case.good}/run",
            "test_resnet",
            "resnet18",
            "convnet",
            "none",
        ),
        *(f"test_resnet@{case.good}/small.pt", f"local-dir:{case.good}/timm", f"{case.good}", "ViT-B-32/none"),
    )
    spec = _spec(case, schemes, rests, MODEL_OPTIONS)
    if case.rng.random() < 0.2:
        spec = f"py:{case.good}/zoo.py:{case.rng.choice(('small', 'smal', 'torch', ''))}" + spec.partition(":")[2]
    return lambda: answer(spec)


DATA_OPTIONS = (
    "selection_from",
    "train_samples",
    "train_labels",
    "label",
    "image",
    "text",
    "split",
    "name",
    "path",
    "x",
)
MODEL_OPTIONS = (
    "size",
    "channels",
    "mean",
    "std",
    "interpolation",
    "crop",
    "num_classes",
    "in_chans",
    "pretrained",
    "weights",
)
SETTINGS = (
    *(
        "optim.epochs",
        "optim.lr",
        "optim.batch_size",
        "optim.clip",
        "views.count",
        "views.strength",
        "pool.share",
        "seed",
    ),
    *(
        "gate.max_loss",
        "gate.alphas",
        "gate.level",
        "partition.temperature",
        "partition.margin",
        "method",
        "optim",
        "x.y",
        "",
    ),
)


def _spec(case: Case, schemes: tuple[str, ...], rests: tuple[str, ...], options: tuple[str, ...]) -> str:
    rng = case.rng
    rest = rng.choice(rests) if rng.random() < 0.8 else rng.choice(WORDS)
    drawn = "&".join(f"{rng.choice(options)}={rng.choice(WORDS)}" for _ in range(rng.choice((0, 0, 1, 1, 2))))
    spec = f"{rng.choice(schemes)}:{rest}" + (f"?{drawn}" if drawn else "")
    if rng.random() < 0.3:
        place = rng.randrange(len(spec) + 1)
        spec = spec[:place] + rng.choice(WORDS) + spec[place:]
    return spec


def settings(case: Case) -> Callable[[], object]:
    """Settings, as `--set` takes them."""
    given = [f"{case.rng.choice(SETTINGS)}={case.rng.choice(WORDS)}" for _ in range(case.rng.choice((1, 1, 2)))]
    if case.rng.random() < 0.1:
        given.append(case.rng.choice(WORDS))

    def read() -> object:
        import crossteach

        return crossteach.with_settings(crossteach.TransferConfig(), given)

    return read


# ------------------------------------------------------------------------------------------------------------- tables
def label_maps(case: Case) -> Callable[[], object]:
    """Label maps: csv, YAML and JSON."""
    name = case.rng.choice(("map.csv", "map.yaml", "map.json"))
    change = changed_json if name.endswith("json") else changed_text
    path = case.file(name, change(case.text(name), case.rng))

    def read() -> object:
        import crossteach
        from crossteach.data.label_map import read_label_map

        teacher = crossteach.from_callable(
            lambda images: images.mean((2, 3)), 3, classes=CLASSES, outputs="logits", **GREY
        )
        found = read_label_map(path)
        found.require_teachers([(teacher.name, teacher.spec)])
        return found.belongs(teacher, ("pet", "other"))

    from crossteach.types import Preprocess

    GREY = {"preprocess": Preprocess((8, 8), 3)}
    return read


def labels_files(case: Case) -> Callable[[], object]:
    """Labels that a person has filled in."""
    path = case.file("ask.csv", changed_text(case.text("ask.csv"), case.rng))

    def read() -> object:
        from crossteach.labels_file import read_labels

        return read_labels(path, "ask.csv of a run", np.arange(20, dtype=np.int64), ("cat", "dog", MARKUP))

    return read


def csv_files(case: Case) -> Callable[[], object]:
    """Lists of pictures or of texts."""
    name = case.rng.choice(("list.csv", "texts.csv"))
    text = case.text(name).replace("FOLDER", str(case.good / "pictures"))
    path = case.file(name, changed_text(text, case.rng))
    return lambda: touch(f"csv:{path}")


def parquet_files(case: Case) -> Callable[[], object]:
    """Parquet files in a folder for `hf:`: bytes changed, or columns of other types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = case.rng
    if rng.random() < 0.5:
        case.file("train.parquet", changed_bytes(case.bytes("parquet/train.parquet"), rng))
    else:
        rows = pq.read_table(case.good / "parquet/train.parquet").to_pylist()
        for _ in range(rng.choice((1, 2, 8))):
            rows = changed_value(rows, rng, 1)
        columns: dict[str, Any] = {}
        for key in ("image", "label", rng.choice(WORDS)):
            columns[key] = (
                [row.get(key) if isinstance(row, dict) else row for row in rows] if isinstance(rows, list) else [rows]
            )
        with contextlib.suppress(pa.ArrowException, OverflowError, UnicodeEncodeError, RecursionError):
            pq.write_table(pa.table(columns), case.folder / "train.parquet")
    case.file("train.py", case.code().encode())
    return lambda: touch(f"hf:{case.folder}")


def answer_tables(case: Case) -> Callable[[], object]:
    """Tables of what another model said: cells, columns and arrays of other types and lengths, damaged files."""
    rng = case.rng
    name = rng.choice(("answers.csv", "answered_labels.csv", "answers.parquet", "answers.npz"))
    if name.endswith(".csv"):
        path = case.file(name, changed_text(case.text(name), rng))
    elif name.endswith(".npz"):
        path = _changed_npz(case, name, ("id", "path", "label", "answers", "pool"))
    else:
        path = _changed_table(case, name)
    options = rng.choice((*[""] * 3, "?outputs=probabilities", "?outputs=logits"))

    def read() -> object:
        import crossteach

        data = crossteach.load_data(f"npz:{case.good}/data.npz")
        model = crossteach.load_model(f"predictions:{path}{options}", like=data)
        return [crossteach.predict(model, split).preds for split in (data.train, data.selection, data.test)]

    return read


def _changed_table(case: Case, name: str) -> Path:
    """Write a good parquet file with other cells, columns of other types or names, or its bytes changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = case.rng
    if rng.random() < 0.3:
        return case.file(name, changed_bytes(case.bytes(name), rng))
    columns: dict[str, Any] = pq.read_table(case.good / name).to_pydict()
    for _ in range(rng.choice((1, 1, 2, 4))):
        key = rng.choice(list(columns))
        match rng.randrange(5):
            case 0:
                columns[key][rng.randrange(len(columns[key]))] = rng.choice(VALUES)
            case 1:
                columns[key] = [rng.choice(VALUES)] * len(columns[key])
            case 2:
                columns[rng.choice(("id", "path", "label", "split", "row", *WORDS))] = columns.pop(key)
            case 3:
                columns = {each: values[: rng.choice((0, 1, 60))] for each, values in columns.items()}
                break
            case _:
                columns[key] = [str(value) for value in columns[key]]
    with contextlib.suppress(pa.ArrowException, OverflowError, UnicodeEncodeError, RecursionError, ValueError):
        pq.write_table(pa.table(columns), case.folder / name)
    return case.folder / name


# ------------------------------------------------------------------------------------------------- arrays and pictures
def npz_files(case: Case) -> Callable[[], object]:
    """Arrays of other types and shapes, objects in them, damaged archives."""
    path = _changed_npz(case, "data.npz", ("x", "y", "group_train"))
    return lambda: touch(f"npz:{path}")


def _changed_npz(case: Case, name: str, others: tuple[str, ...]) -> Path:
    """Write a good archive with some of its arrays changed or under another name, or its bytes changed."""
    rng, target = case.rng, io.BytesIO()
    arrays: dict[str, Any] = dict(np.load(case.good / name))
    for _ in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice(list(arrays))
        with contextlib.suppress(
            ValueError, TypeError, OverflowError, IndexError
        ):  # numpy does not make every array of every other
            arrays[key] = _changed_array(arrays[key], case)
        if rng.random() < 0.2:
            arrays[rng.choice((*arrays, *others, rng.choice(WORDS[20:]).replace("\0", "0"))) or "x"] = arrays.pop(key)
    np.savez(target, **arrays)
    content = target.getvalue()
    return case.file(name, changed_bytes(content, rng) if rng.random() < 0.3 else content)


def _changed_array(array: Any, case: Case) -> Any:
    rng = case.rng
    match rng.randrange(9):
        case 0:
            return array.astype(rng.choice(("f8", "f2", "i1", "u8", "c16", "U3", "S2", "?", "i8")))
        case 1:
            return array[..., None] if rng.random() < 0.5 else array.ravel()
        case 2:
            return array[: rng.choice((0, 1, 2))]
        case 3:
            return np.array([case.evil(), None], object)
        case 4:
            return np.full(array.shape, rng.choice((np.nan, np.inf, -1.0, 1e300, 2.0**63)))
        case 5:
            return np.array(rng.choice((*WORDS, 3, 1e400)))
        case 6:
            return np.array(list(WORDS))
        case 7:
            return np.zeros(array.shape, [("a", "i4"), ("b", "f8")]) if rng.random() < 0.5 else array.astype("M8[s]")
        case _:
            return array[::-1].T


def idx_files(case: Case) -> Callable[[], object]:
    """The MNIST family's files: the archive damaged, or what is in it."""
    names = sorted(path.name for path in (case.good / "idx").iterdir())
    if case.rng.random() < 0.3:
        folder = case.copy("idx", *names)
    else:
        folder = Path(shutil.copytree(case.good / "idx", case.folder / "idx"))
        victim = folder / case.rng.choice(names)
        content = bytearray(gzip.decompress(victim.read_bytes()))
        if case.rng.random() < 0.5:
            content[case.rng.randrange(16)] = case.rng.choice((0, 1, 2, 8, 9, 0x7F, 0xFF))
        victim.write_bytes(
            gzip.compress(changed_bytes(bytes(content), case.rng) if case.rng.random() < 0.5 else content)
        )
    return lambda: touch(f"idx:{folder}")


def tar_files(case: Case) -> Callable[[], object]:
    """Shards: members with names that lead elsewhere, links, wrong sizes, wrong labels, damaged bytes."""
    rng, target = case.rng, io.BytesIO()
    odds = rng.choice((0.02, 0.1, 0.3))
    with tarfile.open(fileobj=target, mode="w", format=rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as tar:
        for number in range(8):
            picture = case.bytes(f"pictures/train/{CLASSES[number % 2]}/{number // 2}.png")
            for suffix, content in (("png", picture), ("cls", CLASSES[number % 2].encode())):
                member = tarfile.TarInfo(f"{number:03}.{suffix}")
                if rng.random() < odds:
                    content = changed_bytes(content, rng)
                if rng.random() < odds:
                    member.name = (
                        rng.choice((*WORDS, f"../../{number}.png", f"/{case.canary}", f"a/../../{number}.cls")) or "x"
                    )
                if rng.random() < odds / 2:
                    member.type = rng.choice(
                        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
                    )
                    member.linkname = rng.choice(("/etc/hostname", "../x", str(case.canary)))
                member.size = len(content)
                with contextlib.suppress(ValueError, UnicodeError):
                    tar.addfile(member, io.BytesIO(content))
    content = target.getvalue()
    case.file("train-000.tar", changed_bytes(content, rng) if rng.random() < 0.15 else content)
    return lambda: touch(f"wds:{case.folder}/{rng.choice(('*.tar', 'train-000.tar', 'train-{000..001}.tar'))}")


def picture_folders(case: Case) -> Callable[[], object]:
    """Folders of pictures: damaged ones, other files under their names, odd names of classes."""
    rng = case.rng
    odds = rng.choice((0.0, 0.05, 0.3))
    for place, part in enumerate(("train", "val", "test")):
        for label in CLASSES[:2]:
            odd = (
                rng.choice(WORDS).replace("/", "_").replace("\0", "").strip(".")[:200] if rng.random() < 0.1 else label
            )
            for number in range(place, place + 2):
                content = case.bytes(f"pictures/train/{label}/{number}.png")
                content = changed_bytes(content, rng) if rng.random() < odds else content
                suffix = rng.choice((*[".png"] * 5, ".jpg", ".gif", ".tif", ".webp", ".bmp", ".txt"))
                case.file(f"{part}/{odd or label}/{number}{suffix}", content)
    if rng.random() < 0.3:
        huge = b"P5\n%d %d\n255\n" % (rng.choice((1, 65535, 10**6)), rng.choice((0, 1, 65535, 10**6)))
        case.file("train/cat/huge.png", huge)
    if rng.random() < 0.3:
        (case.folder / "train/cat").mkdir(exist_ok=True)
        (case.folder / "train/cat/link.png").symlink_to(rng.choice(("/etc/hostname", "..", "/dev/zero", "link.png")))
    spec = f"folder:{case.folder}" + rng.choice(("", "?max_broken=1", "?max_broken=1&duplicates=keep"))
    return lambda: touch(spec) if rng.random() < 0.8 else touch("glyphs", spec)


# ------------------------------------------------------------------------------------------------------------- models
def torch_files(case: Case) -> Callable[[], object]:
    """Checkpoints of torch: changed bytes, other contents, pickles that would run code."""
    import torch

    rng, target = case.rng, io.BytesIO()
    state: Any = torch.load(case.good / "small.pt", weights_only=True)
    match rng.randrange(6):
        case 0:
            content = changed_bytes(case.bytes("small.pt"), rng)
        case 1:
            content = pickle.dumps(rng.choice((case.evil(), {"state_dict": case.evil()}, [case.evil()])))
        case 2:
            content = _changed_zip(case.bytes("small.pt"), case)
        case 3:
            torch.save({"model": state, "epoch": case.evil()}, target)
            content = target.getvalue()
        case _:
            torch.save(_changed_state(state, rng), target)
            content = target.getvalue()
    path = case.file("weights.pt", content)
    if rng.random() < 0.1:
        scheme = rng.choice(("torchscript", "export", "onnx"))
        return lambda: answer(f"{scheme}:{path}")
    return lambda: answer(f"py:{case.good}/zoo.py:small@{path}")


def _changed_zip(content: bytes, case: Case) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as made:
        victim = case.rng.choice(source.namelist())
        for name in source.namelist():
            part = source.read(name)
            if name == victim:
                part = pickle.dumps(case.evil()) if case.rng.random() < 0.2 else changed_bytes(part, case.rng)
            made.writestr(name, part)
    return target.getvalue()


def _changed_state(state: dict[str, Any], rng: random.Random) -> Any:
    import torch

    found: Any = dict(state)
    for _ in range(rng.choice((1, 2))):
        key = rng.choice(list(found)) if found else "x"
        odd = (
            None,
            1,
            "x",
            [],
            {},
            torch.tensor(float("nan")),
            torch.zeros(0),
            torch.zeros(4, 64, dtype=torch.complex64),
        )
        sparse = torch.zeros(4, 64).to_sparse()
        found[key] = rng.choice((*odd, sparse, torch.zeros(4, 64, dtype=torch.int8), torch.zeros(1).expand(4, 64)))
        if rng.random() < 0.5:
            found[rng.choice(("module.x", "state_dict", "_orig_mod.", *WORDS, 3))] = found.pop(key)  # type: ignore[call-overload]
    return rng.choice((found, found, {"state_dict": found}, {"model_ema": found, "net": found}, [found], None))


def safetensors_files(case: Case) -> Callable[[], object]:
    """Safetensors: the header, the numbers behind it, and the index of shards."""
    rng, content = case.rng, case.bytes("small.safetensors")
    if rng.random() < 0.3:
        case.file("part.safetensors", content)
        index = {"weight_map": dict.fromkeys(("1.weight", "1.bias", "3.weight", "3.bias"), "part.safetensors")}
        path = case.file("model.safetensors.index.json", changed_json(json.dumps(index), rng))
    else:
        length = int.from_bytes(content[:8], "little")
        header = changed_json(content[8 : 8 + length].decode(), rng)
        whole = len(header).to_bytes(8, "little") + header + content[8 + length :]
        path = case.file("weights.safetensors", whole if rng.random() < 0.6 else changed_bytes(content, rng))
    return lambda: answer(f"py:{case.good}/zoo.py:small@{path}")


def saved_students(case: Case) -> Callable[[], object]:
    """Saved students: `model.json`, their weights, and code of another beside them."""
    folder = case.copy("student", *["model.json"] * 4, "model.safetensors")
    if case.rng.random() < 0.3:
        (folder / "architecture.py").write_text(case.code() + ZOO)
    if case.rng.random() < 0.3:
        said = json.loads(case.text("student/model.json"))
        odd = ("os", "os.path", "builtins", "timm", "torch.hub", f"{folder}/architecture.py")
        said["architecture"] |= {
            "source": case.rng.choice(("py", "timm", "torchvision", "hf", "clip", "os", "")),
            "where": case.rng.choice(odd),
            "factory": case.rng.choice(("small", "system", "load")),
        }
        said["architecture"]["name"] = case.rng.choice(("os", "resnet18", "local-dir:/", *WORDS))
        (folder / "model.json").write_text(json.dumps(said))
    return lambda: answer(f"run:{folder}")


def transformers_folders(case: Case) -> Callable[[], object]:
    """Folders of transformers, with code beside the model that its config names."""
    folder = case.copy("vit", "config.json", "config.json", "preprocessor_config.json", "model.safetensors")
    _ask_for_code(
        case, folder / "config.json", {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    )
    return lambda: answer(f"hf:{folder}")


def timm_folders(case: Case) -> Callable[[], object]:
    """Folders of timm, with code beside the model."""
    folder = case.copy("timm", "config.json", "config.json", "config.json", "model.safetensors")
    _ask_for_code(case, folder / "config.json", {"custom_load": "evil"})
    return lambda: answer(f"timm:local-dir:{folder}")


def _ask_for_code(case: Case, path: Path, wanted: dict[str, str]) -> None:
    (path.parent / "evil.py").write_text(case.code())
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(path.read_bytes())
        if isinstance(said, dict) and case.rng.random() < 0.5:
            path.write_text(json.dumps(said | {"auto_map": wanted}))


def onnx_files(case: Case) -> Callable[[], object]:
    """ONNX graphs: bytes changed, operators renamed, weights said to lie elsewhere."""
    import onnx

    rng = case.rng
    content = case.bytes("model.onnx")
    if rng.random() < 0.7:
        model = onnx.load_model_from_string(content)
        node, weight = rng.choice(model.graph.node), rng.choice(model.graph.initializer)
        match rng.randrange(5):
            case 0:
                node.op_type = rng.choice(("Loop", "If", "PyOp", "Conv", "Evil", "Softmax", ""))
            case 1:
                node.domain = rng.choice(("com.microsoft", "evil", "ai.onnx.ml"))
            case 2:
                weight.data_location = onnx.TensorProto.EXTERNAL
                place = weight.external_data.add()
                place.key, place.value = "location", rng.choice(("../../x", "/etc/hostname", "weights.bin", ""))
            case 3:
                for dim in weight.dims[:]:
                    weight.dims.append(dim * rng.choice((1, -1, 2**40)))
            case _:
                node.input[0] = rng.choice(("", "x", node.output[0]))
        content = model.SerializeToString()
    else:
        content = changed_bytes(content, rng)
    path = case.file("model.onnx", content)
    return lambda: answer(f"onnx:{path}")


# ------------------------------------------------------------------------------------------------- folders and plans
def report_folders(case: Case) -> Callable[[], object]:
    """Run folders, of which a report is made."""
    runs = (
        ("run", ("summary.json", "summary.json", "summary.json", "config.json", "metrics.jsonl", "classes.parquet")),
        ("scout", ("scout.json", "scout.json", "scout.json", "config.json", "pictures.json", "classes.parquet")),
        ("sweep", ("sweep.json", "sweep.json", "results.parquet", "jobs.json")),
    )
    name, changed = case.rng.choice([run for run in runs if (case.good / run[0]).is_dir()])
    folder = case.copy(name, *(each for each in changed if (case.good / name / each).is_file()))

    def read() -> object:
        import crossteach

        return crossteach.write_report(folder)

    return read


def plans(case: Case) -> Callable[[], object]:
    """Plans of sweeps: their text, or what it says."""
    import yaml

    text = case.text("plan.yaml")
    said = (
        changed_text(text, case.rng)
        if case.rng.random() < 0.5
        else changed_json(json.dumps(yaml.safe_load(text)), case.rng)
    )
    path = case.file("plan.yaml", said)

    def read() -> object:
        from crossteach.sweeping.plan import read_plan

        return read_plan(path).jobs()

    return read


KINDS: dict[str, Kind] = {
    "model specs": specs_of_models,
    "data specs": specs_of_data,
    "settings": settings,
    "label maps": label_maps,
    "labels files": labels_files,
    "npz": npz_files,
    "idx": idx_files,
    "csv": csv_files,
    "parquet": parquet_files,
    "answers": answer_tables,
    "tar": tar_files,
    "pictures": picture_folders,
    "pt": torch_files,
    "safetensors": safetensors_files,
    "saved students": saved_students,
    "hf folders": transformers_folders,
    "timm folders": timm_folders,
    "onnx": onnx_files,
    "reports": report_folders,
    "plans": plans,
}
