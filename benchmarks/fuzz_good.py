"""Good files of every kind, small, written by crossteach itself and by the libraries that people use."""

import gzip
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
from fuzz_kinds import CLASSES, ZOO
from PIL import Image


def make_good(folder: Path, sweep: bool = True) -> None:
    """Write the good files; a folder that holds them all is left as it is. A sweep starts processes of its own."""
    if (folder / "whole").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _write_data(folder)
        _write_answers(folder)
        _write_texts(folder)
        _write_models(folder)
        _write_runs(folder, sweep)
    (folder / "whole").touch()


def _write_data(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 30), ("val", 60), ("test", 30)):
        labels = np.arange(count) % 3
        bright = np.arange(8)[None, :, None] // 3 == labels[:, None, None]  # a class is where a picture is bright
        arrays[f"x_{part}"] = (rng.integers(0, 100, (count, 8, 8)) + 120 * bright).astype(np.uint8)
        arrays[f"y_{part}"] = labels
    np.savez(folder / "data.npz", **arrays, class_names=np.array(CLASSES))
    rows = []
    for label in CLASSES[:2]:
        place = folder / "pictures" / "train" / label
        place.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, (9, 10, 3), np.uint8)).save(place / f"{number}.png")
            rows.append((f"train/{label}/{number}.png", label))
    listed = [f"FOLDER/{path},{label},{('train', 'val', 'test')[i % 3]}" for i, (path, label) in enumerate(rows)]
    (folder / "list.csv").write_text("\n".join(["path,label,split", *listed]))
    content = [{"bytes": (folder / "pictures" / path).read_bytes(), "path": path} for path, _ in rows]
    (folder / "parquet").mkdir()
    pq.write_table(
        pa.table({"image": content, "label": [label for _, label in rows]}), folder / "parquet/train.parquet"
    )
    (folder / "idx").mkdir()
    for part, name in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"].astype(np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"idx/{name}-{what}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def _write_answers(folder: Path) -> None:
    """Write what a model said of `data.npz`: by split and row, or by split alone in an npz."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    rng, labels = np.random.default_rng(0), np.load(folder / "data.npz")
    probs = {part: np.eye(3)[labels[f"y_{part}"]] * 0.7 + 0.1 for part in ("train", "val", "test")}
    columns = {
        "split": [part for part, rows in probs.items() for _ in rows],
        "row": [row for rows in probs.values() for row in range(len(rows))],
        **dict(zip(CLASSES, np.concatenate(list(probs.values())).T.tolist(), strict=True)),
    }
    pq.write_table(pa.table(columns), folder / "answers.parquet")
    pa.csv.write_csv(pa.table(columns), folder / "answers.csv")
    words = {"split": columns["split"], "row": columns["row"], "label": rng.choice(CLASSES, 120).tolist()}
    pa.csv.write_csv(pa.table(words), folder / "answered_labels.csv")
    np.savez(folder / "answers.npz", classes=np.array(CLASSES), **probs)


def _write_texts(folder: Path) -> None:
    texts = [
        f"a text of {label} number {i},{label},{('train', 'val', 'test')[i % 3]}" for i in range(6) for label in CLASSES
    ]
    (folder / "texts.csv").write_text("\n".join(["text,label,split", *texts]))
    (folder / "map.csv").write_text("teacher_class,student_class\ncat,pet\ndog,pet\n2,other\n")
    (folder / "map.yaml").write_text("cat: pet\ndog: pet\n2: other\n")
    (folder / "map.json").write_text('{"cat": "pet", "dog": null}\n')
    (folder / "ask.csv").write_text(
        "sample,label,file\n3,cat,a.png\n4,dog,b.png\nq0000000000000005,neither,c.png\n6,,d.png\n"
    )
    (folder / "zoo.py").write_text(ZOO)
    plan = f"""# a plan
data: npz:{folder}/data.npz
models:
  - py:{folder}/zoo.py:small@{folder}/small.safetensors
  - py:{folder}/zoo.py:small@{folder}/other.safetensors
methods: [xe, kl+dp, {{method: kl+dp, name: slow, settings: {{optim.lr: 0.001}}}}]
seeds: [0, 1]
settings:
  optim.steps: 2
  optim.lr: 0.01
"""
    (folder / "plan.yaml").write_text(plan)


def _write_models(folder: Path) -> None:
    import timm
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    module = _taught(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)), folder
    )
    torch.save(module.state_dict(), folder / "small.pt")
    save_file(module.state_dict(), folder / "small.safetensors")
    save_file({k: v + 0.01 for k, v in module.state_dict().items()}, folder / "other.safetensors")
    names = {
        "input_names": ["pixels"],
        "output_names": ["scores"],
        "dynamic_axes": {"pixels": {0: "n"}, "scores": {0: "n"}},
    }
    torch.onnx.export(module.eval(), (torch.rand(2, 1, 8, 8),), folder / "model.onnx", dynamo=False, **names)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8, id2label=dict(enumerate(CLASSES)))
    transformers.ViTForImageClassification(config).save_pretrained(folder / "vit")
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "vit")
    (folder / "timm").mkdir()
    resnet = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(resnet, folder / "timm", model_config={"num_classes": 3}, safe_serialization=True)


def _taught(module, folder: Path):
    import torch

    data = np.load(folder / "data.npz")
    pixels, labels = torch.from_numpy(data["x_train"]) / 255, torch.from_numpy(data["y_train"])
    optimiser = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(100):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(pixels), labels).backward()
        optimiser.step()
    return module


def _write_runs(folder: Path, sweep: bool) -> None:
    import crossteach
    from crossteach.scouting.folder import open_scout

    data = crossteach.load_data(f"npz:{folder}/data.npz")
    specs = [f"py:{folder}/zoo.py:small@{folder}/{name}.safetensors" for name in ("small", "other")]
    student, teacher = (crossteach.load_model(spec, like=data) for spec in specs)
    short = crossteach.with_settings(crossteach.TransferConfig(), ["optim.steps=2", "optim.lr=0.01"])
    result = crossteach.transfer(student, [teacher], data, folder / "run", short)
    result.student.save(folder / "student")
    open_scout([student, teacher], data, folder / "scout", embeddings="none")
    if sweep:
        crossteach.sweep(folder / "plan.yaml", folder / "sweep")
