import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import crossteach
from crossteach.config import OptimConfig, TransferConfig
from crossteach.data.pixels import prepare
from crossteach.data.pool import read_pool
from crossteach.data.texts import to_batch
from crossteach.errors import ModelError, SpecError
from crossteach.models.hf import _max_length, read_processor

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very", "the", "was", "it"]
CLASSES = {0: "cat", 1: "dog", 2: "fox"}


def image_config(**changes):
    return transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label=CLASSES, label2id={name: i for i, name in CLASSES.items()}, **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    transformers.ViTForImageClassification(image_config()).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.4] * 3).save_pretrained(folder)
    return folder


def write_text_model(folder, seed=0, words=WORDS, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, num_labels=2, initializer_range=0.3, **changes,
    )  # fmt: skip
    torch.manual_seed(seed)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return write_text_model(tmp_path_factory.mktemp("bert"))


def test_an_image_model_answers_as_transformers_does(image_folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), dtype=np.uint8)
    for number, each in enumerate(pixels):
        for part in ("train", "val", "test"):
            (tmp_path / part / str(number % 3)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(each).save(tmp_path / part / str(number % 3) / f"{number}.png")
    data = crossteach.load_data(f"folder:{tmp_path}?duplicates=keep")
    model = crossteach.load_model(f"hf:{image_folder}")
    assert model.classes == ("cat", "dog", "fox")
    assert (model.preprocess.size, model.preprocess.crop_mode, model.preprocess.mean) == (
        (32, 32),
        "squash",
        (0.4,) * 3,
    )
    processor = transformers.AutoImageProcessor.from_pretrained(image_folder, backend="pil")
    theirs = transformers.AutoModelForImageClassification.from_pretrained(image_folder).eval()
    order = np.argsort([int(i) % 3 for i in range(6)], kind="stable")
    with torch.no_grad():
        wanted = theirs(**processor([Image.fromarray(pixels[i]) for i in order], return_tensors="pt")).logits
    torch.testing.assert_close(crossteach.predict(model, data.test).logits, wanted, atol=1e-5, rtol=0)


def test_a_text_model_answers_as_transformers_does(text_folder):
    model = crossteach.load_model(f"hf:{text_folder}")
    texts = ["good film", "a very very very bad film it was the", "", "unknown wörds"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(text_folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(text_folder).eval()
    with torch.no_grad():
        wanted = theirs(**tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")).logits
        said = model.logits(to_batch([t.encode() for t in texts]))
    torch.testing.assert_close(said, wanted, atol=1e-6, rtol=0)
    assert model.classes is None
    assert model.preprocess.kind == "text"


def test_a_text_student_learns_from_a_teacher_with_another_tokenizer_and_opens_without_its_folder(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    texts = [f"{['the', 'a', 'very', 'it', 'was'][rng.integers(5)]} {('good', 'bad')[label]} film" for label in labels]
    data = crossteach.from_texts(
        (texts[:150], labels[:150]), (texts[150:], labels[150:]), selection_from="test", duplicates="keep"
    )
    student_folder = write_text_model(tmp_path / "student", 1)
    student = crossteach.load_model(f"hf:{student_folder}")
    teacher_folder = write_text_model(tmp_path / "teacher", 2, [*WORDS[:4], *reversed(WORDS[4:])])
    teacher = crossteach.load_model(f"hf:{teacher_folder}")
    optimiser = torch.optim.Adam(teacher.module.parameters(), 0.01)
    for _ in range(30):
        optimiser.zero_grad()
        logits = teacher.logits(to_batch([t.encode() for t in texts[:150]]))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[:150])).backward()
        optimiser.step()
    config = TransferConfig(method="kl", force=True, optim=OptimConfig(steps=60, lr=0.01))
    result = crossteach.transfer(student, [teacher], data, out=tmp_path / "run", config=config)
    assert result.summary["transfer_delta"] > 10
    for path in sorted(student_folder.iterdir()):
        path.unlink()
    student_folder.rmdir()
    again = crossteach.load_model(f"run:{tmp_path / 'run'}")
    assert torch.equal(
        crossteach.predict(again, data.test).logits, crossteach.predict(result.student, data.test).logits
    )
    assert again.fingerprint == result.student.fingerprint


def test_a_saved_student_loads_without_crossteach_by_the_lines_beside_it(text_folder, image_folder, tmp_path):
    for folder, ask in (
        (text_folder, 'logits([b"good film \\xff"])'),
        (image_folder, "logits(torch.zeros(1, 3, 32, 32))"),
    ):
        model = crossteach.load_model(f"hf:{folder}")
        out = tmp_path / folder.name
        model.save(out)
        assert str(folder.parent) not in (out / "model.json").read_text()
        (out / "load.py").write_text(model.loading_code() + f"\n\nprint({ask}.tolist())\n")
        done = subprocess.run([sys.executable, "load.py"], cwd=out, capture_output=True, text=True, check=True)
        batch = to_batch([b"good film \xff"]) if folder == text_folder else torch.zeros(1, 3, 32, 32)
        with torch.no_grad():
            wanted = model.logits(batch)
        torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
         ((224, 224), 224 / 256, "center")),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, ((224, 224), 0.875, "center")),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, ((384, 384), 1.0, "squash")),
        ({"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
         ((224, 224), 224 / 256, "squash")),
    ],
)  # fmt: skip
def test_processors_are_read(said, wanted):
    whole = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "resample": 3, "rescale_factor": 1 / 255, **said}
    own = read_processor(whole, "mine")
    assert (own.size, pytest.approx(own.crop), own.crop_mode) == wanted
    assert own.interpolation == "bicubic"


@pytest.mark.parametrize(
    "processor",
    [
        transformers.ViTImageProcessorPil(resample=0),
        transformers.LevitImageProcessorPil(),
        transformers.PoolFormerImageProcessorPil(),
        transformers.PerceiverImageProcessorPil(),
        transformers.EfficientNetImageProcessorPil(resample=0, image_std=[0.47, 0.48, 0.49]),
        transformers.EfficientNetImageProcessorPil(do_normalize=False),
        transformers.MobileViTImageProcessorPil(do_flip_channel_order=False),
    ],
    ids=["nearest", "levit", "poolformer", "perceiver", "efficientnet", "efficientnet-plain", "mobilevit"],
)
def test_pictures_are_brought_to_a_model_as_its_processor_does(processor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((400, 300), Image.Resampling.BILINEAR)
    picture.save(tmp_path / "picture.png")
    own = read_processor(processor.to_dict(), "mine")
    inputs = read_pool(f"folder:{tmp_path}", 3).split.inputs
    wanted = torch.tensor(np.stack(processor(picture)["pixel_values"]))
    seen = prepare(inputs.evaluation(np.arange(1), own), own)
    if isinstance(processor, transformers.PerceiverImageProcessorPil | transformers.MobileViTImageProcessorPil):
        assert (seen - wanted).abs().mean() < 0.02, "cut and resized in the other order, or on a wider ground"
    else:
        torch.testing.assert_close(seen, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("step", ["do_flip_channel_order", "do_thumbnail", "rescale_offset"])
def test_processors_that_do_what_is_not_done_here_are_refused_in_one_line(step):
    said = transformers.ViTImageProcessorPil().to_dict()
    read_processor(said, "mine")
    with pytest.raises(ModelError, match="the processor of 'mine' ") as raised:
        read_processor(said | {step: True}, "mine")
    assert "\n" not in str(raised.value)


def test_a_text_model_without_an_end_reads_as_many_tokens_as_others():
    assert _max_length(transformers.XLNetConfig()) == 512


def test_processors_with_other_ranges_are_refused():
    with pytest.raises(ModelError, match=r"does not scale pixels to \[0, 1\]"):
        read_processor({"rescale_factor": 1 / 127.5, "size": {}}, "mine")


@pytest.mark.parametrize(
    "said", [{"image_std": [0, 1, 1]}, {"image_mean": 3}, {"size": {"height": "x", "width": 8}}, {"resample": [[]]}]
)
def test_a_processor_that_says_something_else_is_refused_in_one_line(image_folder, tmp_path, said):
    folder = shutil.copytree(image_folder, tmp_path / "other")
    own = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(own | said))
    with pytest.raises(ModelError, match=r"processor of|cannot open") as caught:
        crossteach.load_model(f"hf:{folder}")
    assert str(caught.value).isprintable()


def broken(tmp_path, change):
    folder = tmp_path / "broken"
    torch.manual_seed(0)
    transformers.ViTForImageClassification(image_config()).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(architectures=["ViTModel"]), r"is ViTModel; crossteach takes classifiers of images"),
        (lambda c: c.update(problem_type="multi_label_classification"), "answers several labels a sample"),
        (lambda c: c.update(problem_type="regression"), "answers a number"),
        (lambda c: c.update(id2label={str(i): str(i) for i in range(7)}), "its head is not trained|cannot open"),
        (lambda c: c.update(model_type="no-such-thing"), "cannot open"),
    ],
)
def test_what_is_no_classifier_is_refused_in_one_line(tmp_path, change, says):
    with pytest.raises(ModelError, match=says) as raised:
        crossteach.load_model(broken(tmp_path, change))
    assert "\n" not in str(raised.value)


def test_a_body_without_a_head_is_refused(tmp_path):
    folder = tmp_path / "body"
    transformers.ViTModel(image_config()).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["ViTForImageClassification"]}))
    with pytest.raises(ModelError, match=r"no weights for classifier\.\w+.*its head is not trained"):
        crossteach.load_model(f"hf:{folder}")


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("hf:{text}?mean=0.5", SpecError, "reads text, so mean means nothing"),
        ("hf:{text}@w.safetensors", SpecError, "hold their weights themselves"),
        ("hf:{text}?colour=red", SpecError, "has the option 'colour'"),
        ("hf:{empty}", ModelError, "holds no config.json"),
    ],
)
def test_wrong_specs_are_one_line(text_folder, tmp_path, spec, error, says):
    with pytest.raises(error, match=says) as raised:
        crossteach.load_model(spec.format(text=text_folder, empty=tmp_path))
    assert "\n" not in str(raised.value)


def test_a_model_that_cannot_be_fetched_is_one_line():
    with pytest.raises(ModelError, match="cannot open 'hf:nobody/nothing'") as raised:
        crossteach.load_model("hf:nobody/nothing")
    assert "\n" not in str(raised.value)


def test_code_beside_a_model_is_never_run(tmp_path):
    def change(config):
        config.update(
            model_type="mine", auto_map={"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.M"}
        )

    spec = broken(tmp_path, change)
    (tmp_path / "broken" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot open"):
        crossteach.load_model(spec)
    assert not (tmp_path / "ran").exists()
