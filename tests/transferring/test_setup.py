"""What a transfer refuses before anything is trained or written."""

import digits
import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import crossteach
from crossteach import TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.errors import ConfigError, DataError, MissingLabelsError, ModelError


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def run(task, out, *settings, data=None):
    config = with_settings(TransferConfig(), ["optim.epochs=1", "optim.lr=0.01", *settings])
    models = load_model(task.student), [load_model(task.teacher)]
    return transfer(*models, load_data(data or task.data), out, config)


def test_modules_and_datasets_are_refused_with_the_line_that_says_how(task, tmp_path, unchecked):
    student, teacher, data = load_model(task.student), load_model(task.teacher), load_data(task.data)
    dataset = TensorDataset(torch.zeros(4, 1, 8, 8), torch.zeros(4))
    for arguments, error, says in (
        ((student.module, [teacher], data), ModelError, r"the student must be a classifier.*crossteach\.from_module"),
        ((student, [teacher.module], data), ModelError, r"teacher 1 must be a classifier.*crossteach\.from_module"),
        (("demo:mlp", [teacher], data), ModelError, r"not the text 'demo:mlp'; open it with crossteach\.load_model"),
        ((student, teacher, data), ConfigError, r"teachers must be a list of classifiers, as in \[teacher\]"),
        ((student, [teacher], dataset), DataError, r"not TensorDataset; make them with crossteach\.from_dataset"),
        ((student, [teacher], "glyphs"), DataError, r"not the text 'glyphs'; open them with crossteach\.load_data"),
        ((student, [teacher], data.test), DataError, "not the test split alone"),
        ((student, [teacher], [1, 2]), DataError, r"not list; make them with crossteach\.from_arrays"),
    ):
        with pytest.raises(error, match=says):
            transfer(*arguments, tmp_path / "run")
    with pytest.raises(ModelError, match="the model must be a classifier"):
        crossteach.predict(student.module, data.test)
    with pytest.raises(DataError, match=r"give data\.train, data\.selection or data\.test"):
        crossteach.predict(student, data)
    with pytest.raises(ModelError, match="model 2 must be a classifier"):
        crossteach.scout([student, teacher.module], data)
    assert not (tmp_path / "run").exists()


def test_an_augmentation_that_draws_numbers_of_its_own_is_refused(task, tmp_path):
    (tmp_path / "own.py").write_text(
        "import torch\n\ndef own(images, uniforms):\n    return (images + 0.01 * torch.rand(1)).clamp(0, 1)\n"
    )
    with pytest.raises(ConfigError, match="gave two different results for one batch; it must draw no random numbers"):
        run(task, tmp_path / "run", f"views.augmentation={tmp_path}/own.py:own")
    assert not (tmp_path / "run").exists()


def test_batch_norm_in_train_mode_needs_two_samples(task, tmp_path):
    with pytest.raises(ConfigError, match=r"needs two samples or more; there are 900 to teach on.*batch_size is 1"):
        run(task, tmp_path / "run", "optim.train_statistics=true", "optim.batch_size=1")
    assert run(task, tmp_path / "run", "optim.train_statistics=true", "optim.batch_size=29").summary["n_test"]


def test_a_message_speaks_of_no_split_that_the_user_never_made(task, tmp_path):
    with np.load(task.folder / "digits.npz") as archive:
        names = ("x_train", "x_test", "y_test")
        np.savez(tmp_path / "bare.npz", **{name: archive[name] for name in names})
    with pytest.raises(MissingLabelsError, match="the part of train that is set aside to decide has no labels"):
        run(task, tmp_path / "run", "gate.measure=balanced", data=f"npz:{tmp_path / 'bare.npz'}")
