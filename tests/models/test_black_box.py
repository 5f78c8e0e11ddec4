"""Models that only answer: they teach, are scouted and checked like any other, and do not learn."""

import json
import re

import box_files
import digits
import numpy as np
import pytest
import torch
from commands import call

import crossteach
from crossteach import Preprocess, from_callable, load_data, load_model, scout, transfer, with_settings
from crossteach.answers.check import require_channels
from crossteach.config import ScoringConfig
from crossteach.data.texts import to_batch
from crossteach.errors import ConfigError, DataError, ModelError, SpecError
from crossteach.models import BlackBox, random_copy
from crossteach.models.scoring import ask_as, batch_rows, score
from crossteach.scouting.checking import check_model
from crossteach.types import Classifier, TrainableClassifier

GREY_8 = Preprocess(size=(8, 8), channels=1)
QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=32", "views.count=2", "gate.max_loss=100"]
FUNCTION = """
import numpy as np

WEIGHTS = np.random.default_rng(0).normal(size=(64, 10))

class Answers:
    outputs = "probabilities"
    classes = list("0123456789")

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, images):
        scores = np.exp(self.scale * images.flatten(1).numpy() @ WEIGHTS)
        return scores / scores.sum(1, keepdims=True)

def answers(scale=0.1):
    return Answers(scale)

def number():
    return 3
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def data(task):
    return load_data(task.data)


@pytest.fixture(scope="module")
def spec(task):
    """The teacher as an ONNX file that takes three images at once."""
    return box_files.to_onnx(load_model(task.teacher).module, task.folder / "teacher.onnx", (1, 8, 8), batch=3)


def linear(images):
    return images.flatten(1)[:, :3] * 10 - 5


def test_a_black_box_is_a_classifier_that_cannot_learn(spec):
    model = load_model(spec)
    assert isinstance(model, Classifier) and not isinstance(model, TrainableClassifier)
    assert (model.family, model.device, model.to("cpu")) == ("other", torch.device("cpu"), model)
    assert random_copy(model) is None
    assert "teacher answers on the CPU" in model.to("meta").notes[-1]


def test_a_taught_student_is_the_same_whether_its_teacher_is_a_module_or_a_file(task, data, spec, tmp_path):
    student, config = load_model(task.student), with_settings(crossteach.TransferConfig(), QUICK)
    by_module = transfer(student, [load_model(task.teacher)], data, tmp_path / "module", config)
    by_file = transfer(student, [load_model(spec)], data, tmp_path / "file", config)
    for own, other in zip(by_module.student.module.parameters(), by_file.student.module.parameters(), strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-3)
    assert by_file.summary["teacher_accuracy"] == by_module.summary["teacher_accuracy"]
    assert by_file.summary["knowledge_gain"] > 0
    assert any("takes 3 images at once" in note for note in by_file.notes)


def test_black_boxes_are_scouted_and_checked(task, data, spec):
    boxes = [load_model(spec), from_callable(lambda images: images.flatten(1)[:, 20:30] * 5, 10, GREY_8, name="pixels")]
    summary = scout([load_model(task.student), *boxes], data, embeddings="none", controls=True).summary
    assert [model["params"] for model in summary["models"]][1:] == [64 * 32 + 32 + 320 + 10, None]
    assert summary["models"][1]["accuracy"] == crossteach.predict(load_model(task.teacher), data.test).accuracy
    assert [control["of"] for control in summary["controls"]] == ["convolutional"]
    found = check_model(boxes[0], data)
    assert found["verdict"] == "ok", found["findings"]


def test_the_command_line_takes_black_boxes_as_teachers(task, spec, tmp_path, capsys):
    code, out, err = call(capsys, "scout", task.student, spec, "--data", task.data, "--out", tmp_path / "s", "--quiet")
    assert code == 0 and "teacher" in out, err
    assert call(capsys, "check", spec, "--data", task.data)[0] == 0
    command = ["transfer", "--teacher", spec, "--data", task.data, "--out", tmp_path / "run", "--json"]
    settings = [word for setting in QUICK for word in ("--set", setting)]
    code, out, err = call(capsys, *command, "--student", task.student, *settings)
    assert code == 0, err
    assert json.loads(out)["teachers"] == ["teacher"]
    code, out, err = call(capsys, *command, "--student", spec, "--overwrite")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "only answers" in err and "let it teach" in err and "py:FILE.py:FACTORY@FILE" in err


def plan(task, spec, path, lines):
    path.write_text(f"data: {task.data}\nsettings: {{optim.epochs: 1, optim.lr: 0.01, views.count: 1}}\n{lines}")
    return path


def test_a_sweep_takes_black_boxes_as_teachers_and_refuses_them_as_students(task, spec, tmp_path, capsys):
    pairs = f"pairs: [['{task.student}', '{spec}']]\n"
    path = plan(task, spec, tmp_path / "plan.yaml", f"{pairs}methods: [kl]\n")
    code, out, err = call(capsys, "sweep", path, "--out", tmp_path / "sweep", "--json")
    assert code == 0, err
    assert json.loads(out)["done"] == 1
    refused = {
        f"models: ['{task.student}', '{spec}']\nmethods: [kl]\n": "only answers: its weights are not at hand",
        f"{pairs}methods: [crd]\n": "shows its answers only, no features; use a method on answers, as kl",
        f"{pairs}methods: [kl+dp-random-teacher]\n": "no randomly initialised copy of .* architecture is not known",
    }
    for lines, says in refused.items():
        path = plan(task, spec, tmp_path / "plan.yaml", lines)
        code, out, err = call(capsys, "sweep", path, "--out", tmp_path / "refused", "--json")
        assert (code, out) == (1, "")
        assert re.search(says, err), err
        assert not (tmp_path / "refused" / "jobs").exists()


def test_methods_that_need_more_than_answers_are_refused(task, data, spec, tmp_path):
    student, box = load_model(task.student), load_model(spec)
    for method, error, says in [
        ("crd", ModelError, "shows its answers only, no features; use a method on answers, as kl"),
        ("cd", ModelError, "shows its answers only"),
        ("kl+dp-random-teacher", ModelError, "its architecture is not known; name another teacher"),
    ]:
        config = with_settings(crossteach.TransferConfig(), [*QUICK, f"method={method}"])
        with pytest.raises(error, match=says):
            transfer(student, [box], data, tmp_path / "run", config)
    with pytest.raises(ModelError, match=r"the student .* only answers"):
        transfer(box, [student], data, tmp_path / "run")
    with pytest.raises(ConfigError, match="is the same model as"):
        transfer(student, [box, load_model(spec)], data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_batches_fit_what_a_box_takes_and_what_it_costs(spec):
    three, images = load_model(spec), torch.rand(7, 1, 8, 8)
    assert batch_rows(three, images) == 3
    ask_as([three], ScoringConfig(4))
    expected = score(load_model(spec), images)
    torch.testing.assert_close(score(three, images), expected)
    sizes = []

    def counted(images):
        sizes.append(len(images))
        return images.flatten(1)[:, :3]

    large = from_callable(counted, 3, Preprocess((512, 512), 1), outputs="logits")
    sizes.clear()
    assert score(large, torch.rand(5, 1, 8, 8)).shape == (5, 3)
    assert sizes[-2:] == [4, 4]
    assert batch_rows(from_callable(counted, 3, GREY_8, outputs="logits"), images) == 128


def test_a_function_gets_prepared_images_and_may_do_with_them_what_it_likes():
    seen = []

    def greedy(images):
        assert not torch.is_grad_enabled()
        seen.append(images.clone())
        scores = images.flatten(1)[:, :3].clone()
        images.zero_()
        return scores

    model = from_callable(greedy, preprocess=Preprocess((4, 4), 3, (0.5,), (0.25,)), classes="abc", outputs="logits")
    images = torch.rand(2, 3, 4, 4)
    before = images.clone()
    model.logits(images)
    torch.testing.assert_close(seen[-1], (before - 0.5) / 0.25)
    assert torch.equal(images, before) and model.classes == ("a", "b", "c") and model.name == "greedy"


def test_a_function_may_answer_arrays_dictionaries_or_probabilities():
    images = torch.rand(3, 1, 8, 8)
    plain = from_callable(linear, 3, GREY_8)
    assert plain.outputs == "logits" and not plain.notes
    for function in (
        lambda images: linear(images).double().numpy(),
        lambda images: {"logits": linear(images), "hidden": images},
        lambda images: linear(images).softmax(1).numpy(),
    ):
        model = from_callable(function, 3, GREY_8)
        torch.testing.assert_close(model.logits(images).log_softmax(1), plain.logits(images).log_softmax(1))
    assert "sum to 1: the logarithms of these probabilities are taken" in model.notes[0]


def test_a_fingerprint_tells_functions_apart():
    first = from_callable(linear, 3, GREY_8)
    assert first.fingerprint == from_callable(linear, 3, GREY_8).fingerprint
    others = [
        from_callable(lambda images: linear(images) * 1.2, 3, GREY_8),
        from_callable(linear, 3, Preprocess((8, 8), 1, (0.1,))),
        from_callable(lambda images: linear(images).softmax(1), 3, GREY_8),
    ]
    assert len({first.fingerprint, *(each.fingerprint for each in others)}) == 4


def test_a_function_says_what_it_cannot_do(unchecked):
    with pytest.raises(ModelError, match=r"was given the torch module .*; from_module lets it learn as well"):
        from_callable(torch.nn.Flatten())
    with pytest.raises(ModelError, match="needs a function, not str; load_model reads specs"):
        from_callable("demo:mixer")
    with pytest.raises(ModelError, match="was said to score 4 classes but scores 3"):
        from_callable(linear, 4, GREY_8)
    with pytest.raises(ModelError, match="names 2 classes but scores 3"):
        from_callable(linear, 3, GREY_8, classes=["a", "b"])
    with pytest.raises(ModelError, match="outputs must be 'logits' or 'probabilities', not 'odds'"):
        from_callable(linear, 3, GREY_8, outputs="odds")
    with pytest.raises(ModelError, match=r"does not accept an image of \[1, 8, 8\] .*answers a str"):
        from_callable(lambda images: "cat", 3, GREY_8)
    with pytest.raises(ModelError, match="5 rows of scores to 1 samples"):
        from_callable(lambda images: torch.rand(5, 3), 3, GREY_8)
    with pytest.raises(ModelError, match="between 0 and 1 and do not sum to 1"):
        from_callable(lambda images: linear(images).sigmoid(), 3, GREY_8)


def test_an_unsteady_function_is_refused(task, data):
    model = from_callable(lambda images: torch.randn(len(images), 10), 10, GREY_8)
    with pytest.raises(ModelError, match="differ from pass to pass"):
        scout([load_model(task.teacher), model], data, embeddings="none")


def test_a_factory_may_return_a_function_and_needs_no_weights(tmp_path, task, data):
    file = tmp_path / "mine.py"
    file.write_text(FUNCTION)
    spec = f"py:{file}:answers?size=8&channels=1"
    model = load_model(spec, like=data)
    assert isinstance(model, BlackBox) and model.spec == spec and model.name == "answers"
    assert (model.n_classes, model.outputs, model.classes) == (10, "probabilities", tuple("0123456789"))
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(64, 10)))
    images = torch.rand(4, 1, 8, 8)
    expected = (0.1 * images.flatten(1).double() @ weights).log_softmax(1).float()
    torch.testing.assert_close(model.logits(images), expected, atol=1e-5, rtol=1e-4)
    assert load_model(f"{spec}&scale=0.2").fingerprint != model.fingerprint
    before = model.fingerprint
    file.write_text(FUNCTION + "\n# changed\n")
    assert load_model(spec, like=data).fingerprint != before
    with pytest.raises(SpecError, match="returns a function, into which no weights can be loaded; drop @"):
        load_model(f"py:{file}:answers@w.safetensors?size=8&channels=1")
    with pytest.raises(ModelError, match="must return a torch module, or a function of images, not int"):
        load_model(f"py:{file}:number")


def test_a_function_may_read_text(tmp_path, data):
    rng, labels = np.random.default_rng(0), np.arange(200) % 4
    texts = [" ".join("".join(rng.choice(list("abcdefgh"), 6)) for _ in range(n + 1)) for n in labels]
    read = crossteach.from_texts((texts[:100], labels[:100]), (texts[100:], labels[100:]))

    def count(texts):
        assert all(isinstance(text, bytes) for text in texts)
        return np.eye(4)[[min(len(text.split()), 4) - 1 for text in texts]]

    model = from_callable(count, 4, Preprocess(kind="text"))
    assert model.outputs == "probabilities" and model.shape[:2] == (1, 1)
    said = crossteach.predict(model, read.train)
    assert said.accuracy == 100
    with pytest.raises(DataError, match=r"reads text but .* holds image"):
        require_channels(model, data)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef made():\n    return answer\n"
        "def answer(texts):\n    return np.array([[len(t), 5.0] for t in texts])\nanswer.reads = 'text'\n"
    )
    named = load_model(f"py:{tmp_path / 'mine.py'}:made")
    assert named.preprocess.kind == "text" and not named.notes
    assert named.logits(to_batch([b"abc", b"abcdefgh"])).argmax(1).tolist() == [1, 0]
    with pytest.raises(SpecError, match="reads text, so size means nothing"):
        load_model(f"py:{tmp_path / 'mine.py'}:made?size=8")
