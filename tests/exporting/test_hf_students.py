"""Students of transformers, of images and of text, go back to transformers; other students of text are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import ask_alone, lines_of, run_alone
from PIL import Image
from safetensors.torch import save_file
from text_models import Letters

import crossteach
from crossteach import export_run
from crossteach.config import OptimConfig, TransferConfig, ViewsConfig
from crossteach.data.pixels import prepare
from crossteach.data.pool import read_pool
from crossteach.data.texts import to_batch
from crossteach.errors import DataError, ExportError

transformers = pytest.importorskip("transformers")

SOURCE = Path(__file__).parents[1] / "text_models.py"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very"]
CONFIG = TransferConfig(method="kl", force=True, optim=OptimConfig(steps=2, lr=0.001), views=ViewsConfig(count=1))


def write_text_model(folder, seed):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, num_labels=2, initializer_range=0.3,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return f"hf:{folder}"


def texts(count, seed):
    labels = np.random.default_rng(seed).integers(0, 2, count)
    return [f"a very {('good', 'bad')[label]} film {number}" for number, label in enumerate(labels)], labels


@pytest.fixture(scope="module")
def of_text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    data = crossteach.from_texts(texts(40, 1), texts(40, 2), texts(40, 3), duplicates="keep", classes=["pro", "contra"])
    student, teacher = (crossteach.load_model(write_text_model(folder / name, n)) for n, name in enumerate("st"))
    crossteach.transfer(student, [teacher], data, folder / "run", CONFIG, crossteach.Store(folder / "store"))
    return folder / "run"


def test_a_text_student_opens_in_transformers_with_its_tokenizer_and_the_same_logits(of_text, tmp_path):
    made = export_run(of_text, "hf", tmp_path / "export")
    assert (made["checked"]["largest_difference"], made["input"]) == (0.0, None)
    asked = ["a text", "a good film", "bad bad", "very " * 30, ""]
    with torch.no_grad():
        wanted = crossteach.load_model(f"run:{of_text}").logits(to_batch([each.encode() for each in asked]))
    code = (
        lines_of(tmp_path / "export") + f"\nmodel.eval()\ntokens = tokenizer({asked}, padding=True, truncation=True, "
    )
    code += "max_length=16, return_tensors='pt')\nimport json\nprint(json.dumps(model(**tokens).logits.tolist()))"
    printed, answered = run_alone(code, tmp_path / "export").splitlines()
    torch.testing.assert_close(torch.tensor(json.loads(answered)), wanted, atol=1e-6, rtol=0)
    assert printed.split()[0] == ("pro", "contra")[int(wanted[0].argmax())]
    card = (tmp_path / "export" / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card and "9 fixed texts" in card and "image" not in card


def test_a_text_student_opens_in_onnxruntime_with_any_number_of_texts_of_any_length(of_text, tmp_path):
    made = export_run(of_text, "onnx", tmp_path / "export")
    assert made["checked"]["largest_difference"] < 1e-5 and made["input"] is None
    assert {"model.onnx", "tokenizer.json"} <= set(made["files"]) and "model.safetensors" not in made["files"]
    asked = ["a text", "a good film", "bad bad", "very " * 30, ""]
    with torch.no_grad():
        wanted = crossteach.load_model(f"run:{of_text}").logits(to_batch([each.encode() for each in asked]))
    code = (
        f"{lines_of(tmp_path / 'export')}\ntokens = tokenizer({asked}, padding=True, truncation=True, max_length=16, "
        "return_tensors='np')\nprint(json.dumps(session.run(['logits'], dict(tokens))[0].tolist()))"
    )
    printed, answered = run_alone(code, tmp_path / "export").splitlines()
    torch.testing.assert_close(torch.tensor(json.loads(answered)), wanted, atol=1e-5, rtol=0)
    assert printed == ("pro", "contra")[int(wanted[0].argmax())]
    card = (tmp_path / "export" / "README.md").read_text()
    assert "It takes texts" in card and "9 fixed texts" in card and "image" not in card


@pytest.mark.parametrize("to", ["timm", "torch"])
def test_a_text_student_goes_nowhere_else_and_says_where(of_text, tmp_path, to):
    with pytest.raises(
        ExportError, match=rf"model of text, which --to {to} cannot hold; targets that fit it: hf, onnx$"
    ):
        export_run(of_text, to, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_a_text_student_is_not_compared_on_images(of_text, tmp_path):
    with pytest.raises(DataError, match=r"reads text but --data holds image"):
        export_run(of_text, "hf", tmp_path / "export", data="sklearn:digits")


def taught_letters(folder, source=SOURCE, options=""):
    """Transfer between two models of letters that a file builds; the folder of the run."""
    data = crossteach.from_texts(texts(40, 1), texts(40, 2), texts(40, 3), duplicates="keep")
    models = []
    for n in (64, 128):
        save_file(Letters(2, buckets=n).state_dict(), folder / f"{n}.safetensors")
        spec = f"py:{source}:letters@{folder}/{n}.safetensors?n_classes=2&buckets={n}{options}"
        models.append(crossteach.load_model(spec))
    crossteach.transfer(models[0], models[1:], data, folder / "run", CONFIG, crossteach.Store(folder / "store"))
    return folder / "run"


def test_a_text_student_of_ones_own_goes_to_torch_as_weights_and_code(tmp_path):
    run, place = taught_letters(tmp_path), tmp_path / "export"
    made = export_run(run, "torch", place)
    assert made["files"] == ["README.md", "architecture.py", "model.json", "model.safetensors"]
    assert not any("is given" in note for note in made["notes"])
    asked = ["a text", "a good film", "bad bad", "very " * 30, ""]
    with torch.no_grad():
        wanted = crossteach.load_model(f"run:{run}").logits(to_batch([each.encode() for each in asked]))
    code = f"{lines_of(place)}\nimport json\nprint(json.dumps(logits([t.encode() for t in {asked}]).tolist()))"
    torch.testing.assert_close(torch.tensor(json.loads(run_alone(code, place))), wanted, atol=1e-6, rtol=0)
    card = (place / "README.md").read_text()
    assert "It takes texts" in card and "8 fixed texts" in card and "image" not in card
    for to in ("hf", "onnx"):
        with pytest.raises(ExportError, match=rf"--to {to} cannot hold; targets that fit it: torch$"):
            export_run(run, to, tmp_path / to)


def test_a_file_that_the_code_of_a_student_reads_is_named(tmp_path):
    source = tmp_path / "letters.py"
    taking = SOURCE.read_text().replace(
        "**arguments: int) -> nn.Module:", "names: str = '', **arguments) -> nn.Module:"
    )
    source.write_text(taking)
    (tmp_path / "names.csv").write_text("a,b\n")
    made = export_run(taught_letters(tmp_path, source, f"&names={tmp_path}/names.csv"), "torch", tmp_path / "export")
    (named,) = [note for note in made["notes"] if "is given names=" in note]
    assert named.endswith("where the model is built it must be there")


def picture(folder):
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((90, 60)).save(folder / "picture.png")
    return folder


PROCESSORS = {
    "squash": {"size": {"height": 40, "width": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
    "center": {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
}


@pytest.mark.parametrize("how", PROCESSORS)
def test_an_image_student_opens_in_transformers_and_sees_pictures_as_here(how, tmp_path):
    store, data = crossteach.Store(tmp_path / "store"), crossteach.load_data("sklearn:digits")
    models = []
    for seed, name in enumerate("st"):
        torch.manual_seed(seed)
        config = transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
            patch_size=8, num_labels=10, initializer_range=0.3,
        )  # fmt: skip
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path / name)
        transformers.CLIPImageProcessorPil(**PROCESSORS[how], image_mean=[0.3, 0.4, 0.5]).save_pretrained(
            tmp_path / name
        )
        models.append(crossteach.load_model(f"hf:{tmp_path / name}"))
    crossteach.transfer(models[0], models[1:], data, tmp_path / "run", CONFIG, store)
    export_run(tmp_path / "run", "hf", tmp_path / "export")
    student, folder = crossteach.load_model(f"run:{tmp_path / 'run'}"), picture(tmp_path / "pictures")
    (tmp_path / "export" / "picture.png").write_bytes((folder / "picture.png").read_bytes())
    inputs = read_pool(f"folder:{folder}", 3).split.inputs
    seen = prepare(inputs.evaluation(np.arange(1), student.preprocess), student.preprocess)
    with torch.no_grad():
        expected = student.module(seen).logits
        probs = expected.softmax(1)[0]
    answered, printed = ask_alone(tmp_path / "export", seen, "model(pixel_values=images).logits")
    torch.testing.assert_close(answered, expected, atol=1e-5, rtol=0)
    name, confidence = printed.split()
    assert name == student.classes[int(probs.argmax())] if student.classes else name == str(int(probs.argmax()))
    assert float(confidence) == pytest.approx(float(probs.max()), abs=1e-3)
    again = crossteach.load_model(f"hf:{tmp_path / 'export'}")
    assert again.preprocess == student.preprocess


def test_an_image_student_that_no_processor_serves_is_refused_in_one_line(tmp_path):
    from crossteach.exporting.hf import processor_of
    from crossteach.exporting.target import Exportable

    student = crossteach.load_model("timm:test_vit?pretrained=false&num_classes=10&img_size=32&crop_mode=border")
    with pytest.raises(ExportError, match=r"no image processor of transformers.*try --to torch"):
        processor_of(Exportable(student, tuple("0123456789"), (3, 32, 32), None))
