"""Whose code runs when a model is opened."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from crossteach import from_module, load_model
from crossteach.errors import ModelError, SpecError, TrustError, WeightsError
from crossteach.models.saving import ARCHITECTURE, DESCRIPTION, WEIGHTS
from crossteach.types import Preprocess

FACTORY = """
from pathlib import Path
from torch import nn

Path("{ran}").touch()

def dense(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture
def ran(tmp_path):
    return tmp_path / "ran"


@pytest.fixture
def saved(tmp_path, ran):
    (tmp_path / "zoo.py").write_text(FACTORY.format(ran=ran))
    load_model(f"py:{tmp_path}/zoo.py:dense?channels=1&size=8&pretrained=false").save(tmp_path / "saved")
    ran.unlink()
    return tmp_path / "saved"


def change(folder: Path, **architecture: object) -> None:
    description = json.loads((folder / DESCRIPTION).read_text())
    description["architecture"] |= architecture
    (folder / DESCRIPTION).write_text(json.dumps(description))


def forget(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Become another user."""
    monkeypatch.setenv("CROSSTEACH_STORE", str(folder / "another store"))


def test_a_student_that_this_user_saved_opens_without_a_question(saved, ran):
    assert load_model(f"run:{saved}").n_classes == 10


def test_a_student_from_elsewhere_opens_only_with_trust_and_its_code_has_not_run_before(
    saved, ran, tmp_path, monkeypatch
):
    forget(monkeypatch, tmp_path)
    with pytest.raises(TrustError, match=r"architecture\.py .*--trust .*trust: true.*trust=True"):
        load_model(f"run:{saved}")
    assert not ran.exists()
    (saved / ARCHITECTURE).write_text((saved / ARCHITECTURE).read_text() + "\n")
    assert load_model(f"run:{saved}", trust=True).n_classes == 10


@pytest.mark.parametrize("change_it", ["text", "factory", "arguments"])
def test_code_that_was_changed_since_is_not_known(saved, change_it):
    if change_it == "text":
        (saved / ARCHITECTURE).write_text((saved / ARCHITECTURE).read_text() + "\nimport os\n")
    elif change_it == "factory":
        change(saved, factory="Path")
    else:
        change(saved, arguments={"num_classes": "rm"})
    with pytest.raises(TrustError):
        load_model(f"run:{saved}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shape": [1]}, "is damaged"),
        ({"shape": [1, 7, 7]}, "does not accept an image"),
        ({"preprocess": {"size": ["2", 2]}}, "its size is"),
        ({"preprocess": {"std": ["x"]}}, "its std is"),
        ({"n_classes": 9, "classes": None}, "answers 10 classes, but its model.json says 9"),
        ({"classes": ["a", "b"]}, "2 names of classes for 10 classes"),
        ({"architecture": {"source": "clip", "name": "x", "arguments": {}}}, "does not say how its model is built"),
    ],
)
def test_a_description_of_another_model_is_refused_in_one_line(saved, unchecked, changes, says):
    description = json.loads((saved / DESCRIPTION).read_text())
    if "shape" in changes:
        description["preprocess"]["size"] = None
    for key, value in changes.items():
        description[key] = description[key] | value if isinstance(value, dict) else value
    (saved / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(ModelError, match=says):
        load_model(f"run:{saved}")


def test_a_description_that_is_nested_without_end_is_refused(saved):
    (saved / DESCRIPTION).write_text("[" * 100_000)
    with pytest.raises(ModelError, match="is damaged"):
        load_model(f"run:{saved}")


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "architecture",
    [
        {"source": "py", "where": "os", "factory": "system", "arguments": {"command": "touch {ran}"}},
        {"source": "py", "where": "{evil}", "factory": "run", "arguments": {}},
        {"source": "elsewhere", "where": "os", "factory": "system", "arguments": {"command": "touch {ran}"}},
    ],
)
def test_a_description_names_no_code_but_the_file_beside_it(saved, ran, tmp_path, architecture, trust):
    evil = tmp_path / "evil.py"
    evil.write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\ndef run(): pass\n")
    text = json.dumps(architecture).replace("{ran}", str(ran)).replace("{evil}", str(evil))
    (saved / ARCHITECTURE).unlink()
    change(saved, **json.loads(text))
    with pytest.raises(ModelError) as caught:
        load_model(f"run:{saved}", trust=trust)
    assert not ran.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "error", "says"),
    [
        ({"name": "hf-hub:someone/model"}, SpecError, "timm has no model"),
        ({"name": "local-dir:/elsewhere"}, SpecError, "timm has no model"),
        ({"name": 3}, ModelError, "is damaged"),
        ({"arguments": {"checkpoint_path": "evil.pt"}}, SpecError, "'checkpoint_path', which would read another file"),
        ({"arguments": {"pretrained_cfg": {"file": "evil.pt"}}}, SpecError, "would read another file"),
        ({"arguments": [1]}, ModelError, "is damaged|cannot create"),
    ],
)
def test_a_description_names_timm_architectures_and_plain_arguments_only(tmp_path, architecture, error, says):
    load_model("timm:resnet10t?pretrained=false&num_classes=3&size=32").save(tmp_path / "saved")
    assert load_model(f"run:{tmp_path / 'saved'}").n_classes == 3
    change(tmp_path / "saved", **architecture)
    with pytest.raises(error, match=says):
        load_model(f"run:{tmp_path / 'saved'}", trust=True)


def test_the_demos_own_architectures_are_known_everywhere(tmp_path, monkeypatch):
    load_model("demo:mixer").save(tmp_path / "saved")
    forget(monkeypatch, tmp_path)
    assert load_model(f"run:{tmp_path / 'saved'}").fingerprint == load_model("demo:mixer").fingerprint
    change(tmp_path / "saved", factory="Tensor")
    with pytest.raises(TrustError):
        load_model(f"run:{tmp_path / 'saved'}")


def test_a_store_that_cannot_be_written_does_not_stop_a_student_from_being_saved(saved, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("CROSSTEACH_STORE", str(tmp_path / "a file" / "store"))
    model = load_model(f"py:{tmp_path}/zoo.py:dense?channels=1&size=8&pretrained=false")
    model.save(tmp_path / "again")
    with pytest.raises(TrustError):
        load_model(f"run:{tmp_path / 'again'}")


def test_a_factory_that_cannot_be_copied_is_named_with_the_spec_that_opens_it(tmp_path, monkeypatch):
    package = tmp_path / "ct_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("N = 64\n")
    lines = ["from torch import nn", "from .parts import N", "def net():"]
    lines += ["    return nn.Sequential(nn.Flatten(), nn.Linear(N, 3))"]
    (package / "zoo.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    load_model("py:ct_package.zoo:net?channels=1&size=8&pretrained=false").save(tmp_path / "saved")
    with pytest.raises(ModelError, match=r"open it as (py:ct_package\.zoo:net@.*model\.safetensors)") as caught:
        load_model(f"run:{tmp_path / 'saved'}", trust=True)
    spec = str(caught.value).partition("open it as ")[2]
    assert load_model(f"{spec}?channels=1&size=8").n_classes == 3


def test_a_checkpoint_with_code_in_its_extra_state_is_refused(saved, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("owned",))

    torch.save({"layer._extra_state": Evil()}, saved / "extra_state.pt")
    with pytest.raises(WeightsError, match="could run code"):
        load_model(f"run:{saved}")
    assert "owned" not in capsys.readouterr().out


def test_the_weights_of_a_callers_own_module_are_not_opened_as_a_run(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    from_module(module, Preprocess(size=(8, 8), channels=1)).save(tmp_path / "saved")
    assert (tmp_path / "saved" / WEIGHTS).is_file()
    with pytest.raises(ModelError, match="module that its user built"):
        load_model(f"run:{tmp_path / 'saved'}", trust=True)
