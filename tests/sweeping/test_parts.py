"""A tutor's pass in parts, which any workers may take: the store then holds what one pass writes, bit for bit."""

from itertools import pairwise
from pathlib import Path

import digits
import pytest

from crossteach.answers.store import Store
from crossteach.answers.stored import list_entries
from crossteach.config import TransferConfig, ViewsConfig
from crossteach.data import load_data
from crossteach.errors import CrossteachError
from crossteach.settings import with_settings
from crossteach.sweeping import jobs
from crossteach.sweeping.asked import AskedViews
from crossteach.sweeping.jobs import Place, TransferJob, TutorPass, fill_answers, parts_of
from crossteach.sweeping.together import train_together


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def a_pass(task: digits.Digits, store: Path) -> TutorPass:
    classes = load_data(task.data).classes
    return TutorPass(Place(task.data, store, "cpu"), task.teacher, (AskedViews(ViewsConfig(), (0, 2)),), classes)


def tables(store: Path) -> dict[str, bytes]:
    """Every whole table of a store, to the last bit."""
    entries = [entry for entry in list_entries(Store(store)) if entry.rows]
    assert all(entry.known == entry.rows for entry in entries)
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("*.rows"))}


def test_parts_in_any_order_give_the_bits_of_one_pass_and_answer_nothing_twice(task, tmp_path, monkeypatch):
    whole, shared = a_pass(task, tmp_path / "whole"), a_pass(task, tmp_path / "parts")
    samples = 2 * 900 + 450 + 447
    assert fill_answers(whole) == samples
    monkeypatch.setattr(jobs, "PART_ROWS", jobs.CHUNK)
    parts = parts_of(shared, load_data(task.data), 1)
    assert [part.rows for part in parts] == [range(at, at + 256) for at in (0, 256, 512, 768)]
    first = fill_answers(parts[2])
    assert first == 2 * 256
    assert [fill_answers(part) for part in (parts[2], parts[3])] == [0, 2 * 132]
    assert first + 264 + fill_answers(parts[1]) + fill_answers(parts[0]) == samples
    assert fill_answers(shared) == 0
    assert tables(tmp_path / "parts") == tables(tmp_path / "whole")


HUNGRY = """
import torch
from torch import nn

class Hungry(nn.Sequential):
    def forward(self, images):
        if len(images) > 8:
            torch.empty(1 << 60)
        return super().forward(images)

def hungry():
    torch.manual_seed(0)
    return Hungry(nn.Flatten(), nn.Linear(64, 10))
"""


def test_a_batch_that_memory_has_halved_stays_so_for_all_views(task, tmp_path):
    (tmp_path / "hungry.py").write_text(HUNGRY)
    spec, place = (
        f"py:{tmp_path / 'hungry.py'}:hungry?pretrained=false&channels=1&size=8",
        Place(task.data, tmp_path / "store", "cpu"),
    )
    views = tuple(AskedViews(ViewsConfig(strength=strength), (0,)) for strength in (0.25, 0.5))
    fill_answers(TutorPass(place, spec, views, load_data(task.data).classes))
    (model,) = jobs._models((spec,), place)
    assert len([note for note in model.notes if "memory ran out" in note]) == 4, "128, 64, 32 and 16 at once"


def test_a_short_pass_stays_whole_and_a_long_one_is_shared(task, tmp_path, monkeypatch):
    data, asked = load_data(task.data), a_pass(task, tmp_path)
    assert len(parts_of(asked, data, 8)) == 1
    monkeypatch.setattr(jobs, "PART_ROWS", jobs.CHUNK)
    monkeypatch.setattr(jobs, "PARTS", 1)
    parts = parts_of(asked, data, 3)
    assert [part.rows for part in parts] == [range(at, at + 384) for at in (0, 384, 768)]


def test_a_job_of_several_processes_is_a_command_line_with_all_its_settings(tmp_path):
    given = ["method=kl+dp", "seed=3", "gate.alphas=0.5,1", "optim.lr=none", "curriculum.order=soup", "gate.ask=false"]
    config = with_settings(TransferConfig(), [*given, "optim.probe_rates=0.01,0.03", "store.keep=20"])
    place = Place("npz:a.npz", tmp_path / "store", "cpu", trust=True, pools=("folder:b", "folder:c"))
    words = jobs._arguments(TransferJob(place, "demo:mlp", ("demo:mixer", "demo:resnet"), config, tmp_path / "out", 2))
    pairs = [pair for pair in pairwise(words) if pair[0].startswith("--")]
    assert with_settings(TransferConfig(), [value for key, value in pairs if key == "--set"]) == config
    assert {key: [v for k, v in pairs if k == key] for key in ("--student", "--teacher", "--data", "--pool")} == {
        "--student": ["demo:mlp"],
        "--teacher": ["demo:mixer", "demo:resnet"],
        "--data": ["npz:a.npz"],
        "--pool": ["folder:b", "folder:c"],
    }
    assert (words[0], words[-1]) == ("transfer", "--trust")


def test_what_several_processes_say_is_the_reason_of_their_job(tmp_path):
    with pytest.raises(CrossteachError, match=r"^.*nowhere\.npz") as caught:
        train_together(
            2, "cpu", ["transfer", "--student", "demo:mlp", "--data", "npz:nowhere.npz", "--out", str(tmp_path)]
        )
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
