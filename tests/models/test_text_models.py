from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from text_models import Letters, Words
from torch import nn

import crossteach
from crossteach.config import OptimConfig, TransferConfig
from crossteach.data.pool import with_pools
from crossteach.data.views import plain_images
from crossteach.errors import ConfigError, DataError, ModelError, SpecError
from crossteach.models.scoring import score
from crossteach.scouting.checking import check_model
from crossteach.scouting.folder import open_scout

SOURCE = Path(__file__).parents[1] / "text_models.py"
KINDS = ("fruit", "tool", "beast")
WORDS = {
    "fruit": ["apple", "pear", "cherry", "plum", "banana", "grape", "melon", "lemon", "peach", "mango"],
    "tool": ["hammer", "wrench", "chisel", "drill", "pliers", "saw", "spanner", "clamp", "lathe", "rasp"],
    "beast": ["tiger", "otter", "falcon", "badger", "lizard", "weasel", "beaver", "jackal", "ferret", "gibbon"],
}


def sentences(count, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    texts = []
    for label in labels.tolist():
        words = [*draw.choice(WORDS[KINDS[label]], 2), *draw.choice(WORDS[KINDS[draw.integers(0, 3)]], 1)]
        texts.append(f"{' '.join(draw.permutation(words))} {draw.integers(0, 10**6)}")
    return texts, labels


@pytest.fixture(scope="module")
def data():
    pool = crossteach.pool_from(sentences(300, 4)[0], name="more sentences")
    splits = crossteach.from_texts(sentences(400, 1), sentences(300, 2), sentences(300, 3), classes=KINDS)
    return with_pools(splits, [pool])


def trained(module, texts, labels, steps=120):
    optimiser = torch.optim.Adam(module.parameters(), 0.02)
    tokens, labels = module.tokenizer([t.encode() for t in texts]), torch.as_tensor(labels)
    for _ in range(steps):
        logits = module(**tokens) if isinstance(tokens, dict) else module(tokens)
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimiser.step()
    return module


@pytest.fixture(scope="module")
def models(data):
    torch.manual_seed(0)
    student = trained(Letters(), *sentences(60, 5))
    teacher = trained(Words(), *sentences(400, 6))
    return crossteach.from_module(student, name="letters"), crossteach.from_module(teacher, name="words")


def test_a_module_with_a_tokenizer_reads_text(models):
    student, teacher = models
    assert student.preprocess.kind == teacher.preprocess.kind == "text"
    assert (student.n_classes, teacher.n_classes) == (3, 3)


def test_answers_are_those_of_the_module_itself(data, models):
    for model in models:
        asked = model.module.tokenizer(data.test.inputs.texts(np.arange(20)))
        with torch.no_grad():
            wanted = model.module(**asked) if isinstance(asked, dict) else model.module(asked)
        said = crossteach.predict(model, data.test).logits[:20]
        torch.testing.assert_close(said, wanted, atol=1e-6, rtol=0)


def test_a_model_of_words_teaches_one_of_letters_on_a_pool_of_text(data, models, tmp_path):
    student, teacher = models
    config = TransferConfig(optim=OptimConfig(steps=150, lr=1.0))
    result = crossteach.transfer(student, [teacher], data, out=tmp_path / "run", config=config)
    assert result.summary["accuracy_before"] < result.summary["teacher_accuracy"]
    assert result.summary["transfer_delta"] > 2
    assert result.summary["pool"]["used"] == len(data.pools[0].split) > 200
    page = crossteach.write_report(tmp_path / "run")
    assert "data:image/svg+xml" in page.read_text()


@pytest.mark.parametrize("settings", [{"trains": "lora"}, {"train_statistics": True}])
def test_adapters_and_statistics_go_with_text(data, models, tmp_path, settings):
    config = TransferConfig(optim=OptimConfig(steps=20, lr=0.01, **settings))
    result = crossteach.transfer(*models[:1], [models[1]], data, out=tmp_path / "run", config=config)
    assert result.summary["n_test"] == 300


def test_views_may_leave_out_words(data, models, tmp_path):
    config = crossteach.with_settings(TransferConfig(), ["views.augmentation=words", "optim.steps=20", "optim.lr=0.01"])
    crossteach.transfer(models[0], [models[1]], data, out=tmp_path / "run", config=config)


def test_views_for_images_are_refused(data, models, tmp_path):
    config = crossteach.with_settings(TransferConfig(), ["views.augmentation=crop"])
    with pytest.raises(ConfigError, match=r"crop is made for image, and .* use words, span or none"):
        crossteach.transfer(models[0], [models[1]], data, out=tmp_path / "run", config=config)


def test_a_spec_opens_it_and_a_saved_student_opens_again(data, models, tmp_path):
    student = models[0]
    save_file(student.module.state_dict(), tmp_path / "letters.safetensors")
    opened = crossteach.load_model(f"py:{SOURCE}:letters@{tmp_path}/letters.safetensors?ngram=2")
    assert torch.equal(crossteach.predict(opened, data.test).logits, crossteach.predict(student, data.test).logits)
    opened.save(tmp_path / "saved" / "student")
    again = crossteach.load_model(f"run:{tmp_path}/saved")
    assert again.fingerprint == opened.fingerprint
    assert "module.tokenizer(texts)" in opened.loading_code()


def test_options_of_images_are_refused(tmp_path):
    with pytest.raises(SpecError, match="reads text, so mean means nothing"):
        crossteach.load_model(f"py:{SOURCE}:letters?pretrained=false&mean=0.5")


def test_text_models_take_no_images_and_the_other_way_round(data, models, tmp_path):
    digits = crossteach.load_data("sklearn:digits")
    dense = crossteach.from_module(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), name="dense", like=digits)
    with pytest.raises(DataError, match="reads image but 'texts' holds text"):
        crossteach.transfer(models[0], [dense], data, out=tmp_path / "run")


def test_a_tokenizer_that_returns_something_else_is_refused():
    module = Letters()
    module.tokenizer = lambda texts: [1, 2]
    with pytest.raises(ModelError, match="must return a tensor or a mapping of tensors; this one returns a list of 2"):
        crossteach.from_module(module)


def test_a_module_that_answers_fewer_rows_is_refused():
    module = Letters()
    module.tokenizer = lambda texts: Letters.tokenizer(module, texts[:2])
    with pytest.raises(ModelError, match="answers 2 rows to 8 texts"):
        crossteach.from_module(module)


def test_scouting_and_scoring_go_with_text(data, models, tmp_path):
    found = open_scout(list(models), data, tmp_path / "scout")
    assert {model["name"] for model in found["models"]} == {"letters", "words"}
    whole = score(models[0], plain_images(data.test, np.arange(130), models[0].preprocess))
    assert whole.shape == (130, 3)
    page = crossteach.write_report(tmp_path / "scout")
    assert "image/svg+xml" in page.read_text()


def test_a_check_looks_at_text_models_too(data, models):
    for model in models:
        found = check_model(model, data)
        assert found["verdict"] == "ok" and found["labelled"], found["findings"]
        assert found["findings"][-1]["evidence"] == "of text, nothing else is tried"


def test_texts_that_a_model_does_not_take_are_refused_as_texts():
    class Short(Letters):
        def forward(self, ids):
            return super().forward(ids[:, : 90 // (ids.shape[1] < 90)])

    with pytest.raises(ModelError, match=r"does not accept texts \(.*zero.*\); its tokenizer must return"):
        score(crossteach.from_module(Short()), crossteach.data.texts.to_batch([b"a" * 200]))
