import io
import json

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from crossteach import Predictions, TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.data.pictures import encode_picture, write_pictures
from crossteach.transferring.exhibits import class_table, most_changed
from crossteach.transferring.measured import TransferPredictions


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def predictions(logits: torch.Tensor, labels: torch.Tensor) -> Predictions:
    return Predictions("model", logits, labels, np.arange(len(labels)), "", "")


def random_predictions(n: int = 200, classes: int = 7) -> list[Predictions]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    return [predictions(torch.randn(n, classes, generator=generator), labels) for _ in range(5)]


def test_the_class_table_counts_what_a_loop_counts():
    before, after, ungated, *teachers = random_predictions()
    names = [f"c{i}" for i in range(7)]
    found = TransferPredictions(before, after, ungated, tuple(teachers))
    table = class_table(names, found)
    expected = {key: [0] * 7 for key in table if key not in ("class", "name")}
    for i, label in enumerate(before.labels.tolist()):
        was, now, ended = (p.logits[i].argmax() == label for p in (before, after, ungated))
        knows = any(t.logits[i].argmax() == label for t in teachers)
        expected["samples"][label] += 1
        expected["gained"][label] += int(now and not was)
        expected["lost"][label] += int(was and not now)
        expected["gained_ungated"][label] += int(ended and not was)
        expected["lost_ungated"][label] += int(was and not ended)
        expected["positive_flips"][label] += int(knows and not was)
    assert {key: table[key].tolist() for key in expected} == expected
    assert table["name"].tolist() == names


def test_the_samples_whose_confidence_changed_most_come_first():
    before, after, *_ = random_predictions()
    mask = ~before.correct & after.correct
    rows = most_changed(before, after, mask, 12)
    change = {
        i: abs(float(after.logits[i].softmax(0)[label] - before.logits[i].softmax(0)[label]))
        for i, label in enumerate(before.labels.tolist())
        if mask[i]
    }
    assert rows == sorted(change, key=lambda i: -change[i])[:12]
    same = predictions(torch.zeros(5, 2), torch.zeros(5, dtype=torch.long))
    assert most_changed(same, same, torch.tensor([True, False, True, True, True]), 3) == [0, 2, 3]


def test_small_pictures_are_the_pixels_themselves(task, tmp_path):
    test = load_data(task.data).test
    files = write_pictures(test, [3, 0, 3], tmp_path)
    assert files == {0: "pictures/test-0.png", 3: "pictures/test-3.png"}
    with np.load(task.folder / "digits.npz") as archive:
        for row, file in files.items():
            with Image.open(tmp_path / file) as image:
                assert np.array_equal(np.asarray(image), archive["x_test"][row])
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    assert write_pictures(test, [], tmp_path / "none") == {}
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("shape", "suffix", "size"),
    [
        ((64, 64, 1), "png", (64, 64)),
        ((65, 20, 3), "jpg", (20, 65)),
        ((96, 96, 3), "jpg", (96, 96)),
        ((300, 200, 3), "jpg", (64, 96)),
        ((20, 400, 1), "jpg", (96, 5)),
    ],
)
def test_large_pictures_shrink(shape, suffix, size):
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    found, content = encode_picture(pixels)
    with Image.open(io.BytesIO(content)) as image:
        assert (found, image.size) == (suffix, size)
        assert image.mode == ("L" if shape[2] == 1 else "RGB")


def test_files_of_many_sizes_become_pictures_of_one(tmp_path):
    for split in ("train", "val", "test"):
        for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (150 + 30 * i, 120), colour).save(tmp_path / "data" / split / name / f"{i}.png")
    data = load_data(f"folder:{tmp_path / 'data'}?duplicates=keep")
    files = write_pictures(data.test, range(8), tmp_path)
    assert len(files) == 8
    for row, file in files.items():
        with Image.open(tmp_path / file) as image:
            assert image.size == (96, 96)
            middle = image.getpixel((48, 48))
        assert np.argmax(middle) == (0 if data.classes[data.test.labels[row]] == "red" else 2)


def test_a_transfer_keeps_what_it_gained_and_lost(task, tmp_path):
    def run(name: str, settings: list[str]) -> dict:
        config = with_settings(TransferConfig(), ["optim.epochs=2", "optim.batch_size=32", "views.count=1", *settings])
        student, teacher = load_model(task.student), load_model(task.teacher)
        transfer(student, [teacher], load_data(task.data), tmp_path / name, config)
        return json.loads((tmp_path / name / "pictures.json").read_text())

    data = load_data(task.data)
    for name, settings, side in (
        ("taken", ["optim.lr=0.1", "gate.max_loss=5", "seed=3"], "after"),
        ("kept", ["optim.lr=0.9", "method=kl"], "ungated"),
    ):
        shown = run(name, settings)
        assert shown["of"] == ("returned" if side == "after" else "ungated")
        samples = pq.read_table(tmp_path / name / "samples.parquet").to_pydict()
        assert shown["gained"] or shown["lost"]
        for kind, was, now in (("gained", False, True), ("lost", True, False)):
            right = {s: np.array(samples[f"pred_{s}"]) == np.array(samples["label"]) for s in ("before", side)}
            assert len(shown[kind]) == min(12, int(((right["before"] == was) & (right[side] == now)).sum()))
            for entry in shown[kind]:
                row = entry["sample"]
                assert (right["before"][row], right[side][row]) == (was, now)
                assert entry["label"] == data.classes[samples["label"][row]]
                assert entry["after"] == data.classes[samples[f"pred_{side}"][row]]
                assert entry["before_confidence"] == pytest.approx(samples["confidence_before"][row])
                assert entry["after_confidence"] == pytest.approx(samples[f"confidence_{side}"][row])
                assert (tmp_path / name / entry["file"]).is_file()
