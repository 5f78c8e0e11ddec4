"""What files of others may not do; see docs/security.md: names that are scripts, and code that lies in data."""

import json
import os
import pickle
import re
import warnings

import digits
import numpy as np
import pytest
import yaml
from pages import page, text, visible

import crossteach
from crossteach import export_run, load_data, load_model, transfer, verify, with_settings
from crossteach.data.label_map import read_label_map
from crossteach.errors import ConfigError, DataError, LabelSpaceError, WeightsError
from crossteach.scouting.folder import open_scout
from crossteach.sweeping.plan import read_plan

SCRIPT = "<script>alert(1)</script>"
NAMES = [SCRIPT, "</script><img src=x onerror=alert(1)>", *(f"digit {k}" for k in range(2, 10))]
SHORT = ["optim.epochs=2", "optim.lr=0.05", "optim.batch_size=32", "views.count=1"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Two digit models on data whose classes bear these names: a scout, and transfers with and without labels."""
    task = digits.make(tmp_path_factory.mktemp("digits"))
    arrays = dict(np.load(task.folder / "digits.npz")) | {"class_names": np.array(NAMES)}
    np.savez(task.folder / "named.npz", **arrays)
    np.savez(task.folder / "bare.npz", **{key: value for key, value in arrays.items() if not key.startswith("y_")})
    named, bare = (load_data(f"npz:{task.folder / name}.npz") for name in ("named", "bare"))
    student, teacher = load_model(task.student), load_model(task.teacher)
    config = with_settings(crossteach.TransferConfig(), SHORT)
    open_scout([student, teacher], named, task.folder / "scout", embeddings="none")
    transfer(student, [teacher], named, task.folder / "run", config)
    transfer(load_model(task.student), [teacher], bare, task.folder / "bare", with_settings(config, ["method=kl"]))
    verify(task.folder / "bare", ask=12)
    export_run(task.folder / "run", "torch", task.folder / "export", trust=True)
    return task.folder


def require_harmless(html: str) -> None:
    """No element, attribute or script has come out of a name."""
    tags = visible(html).tags
    assert not [attributes for _, attributes in tags if any(key.startswith("on") for key in attributes)]
    assert not [attributes for tag, attributes in tags if tag == "img" and attributes.get("src") == "x"]
    assert "<script>alert" not in html


@pytest.mark.parametrize("run", ["scout", "run", "bare"])
def test_a_report_shows_it_as_text(shown, run):
    html = page(shown / run)
    require_harmless(html)
    assert SCRIPT in text(html) or json.dumps(SCRIPT)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e") in html


def test_the_page_that_asks_shows_it_as_text(shown):
    html = (shown / "bare" / "ask.html").read_text(encoding="utf-8")
    require_harmless(html)
    assert html.count("<script") == html.count("</script>")
    assert "\\u003cscript>alert(1)" in html, "it is among the answers"


def test_the_model_card_shows_it_as_text(shown):
    card = (shown / "export" / "README.md").read_text(encoding="utf-8")
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", card, flags=re.DOTALL)
    assert "<script" not in outside_code and "<img" not in outside_code


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def test_tags_in_yaml_make_no_objects(tmp_path, canary):
    path = tmp_path / "file.yaml"
    path.write_text(f"data: !!python/object/apply:os.mkdir [{canary}]\nmodels: [demo:mlp, demo:mixer]\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_plan(path)
    path.write_text(f"cat: !!python/object/apply:os.mkdir [{canary}]\n")
    with pytest.raises(LabelSpaceError, match="a class is one word"):
        read_label_map(path)
    assert not canary.exists()
    canary.mkdir()
    with pytest.raises(FileExistsError):  # what it would have done
        yaml.unsafe_load(path.read_text())


def test_pickles_are_not_opened(tmp_path, canary):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    np.savez(
        tmp_path / "a.npz", x_train=np.array([Evil()], object), y_train=[0], x_test=np.zeros((1, 8, 8)), y_test=[0]
    )
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(DataError, match="pickle may run code"):
        load_data(f"npz:{tmp_path / 'a.npz'}")
    with pytest.raises(WeightsError, match="could run code"), warnings.catch_warnings(action="ignore"):
        load_model(f"timm:test_resnet@{tmp_path / 'w.pt'}")
    assert not canary.exists()
    canary.mkdir()
    with pytest.raises(FileExistsError):  # what it would have done
        pickle.loads((tmp_path / "w.pt").read_bytes())


def test_a_formula_in_a_table_is_a_text(tmp_path):
    rows = [f"{cell},{label}" for label in ("=1+1", "@SUM(1)") for cell in ("=1+1", "=2+2", "-3", "+4")]
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["text,label", *rows]))
    data = load_data(f"csv:{path}?duplicates=keep")
    assert set(data.classes) == {"=1+1", "@SUM(1)"}
