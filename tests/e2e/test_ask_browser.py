"""The page that asks for labels, in a real browser: keys, undo, a reload, and the file that it saves."""

import csv
import shutil
from pathlib import Path

import digits
import numpy as np
import pytest
from browsers import browser, opened

from crossteach import TransferConfig, load_data, load_model, transfer, verify, with_settings
from crossteach.labels_file import written_id
from crossteach.transferring.verification import read_answers, read_differences

__all__ = ["browser"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    task = digits.make(tmp_path_factory.mktemp("digits"))
    arrays = {key: value for key, value in np.load(task.folder / "digits.npz").items() if not key.startswith("y_")}
    arrays["class_names"] = np.array(["0 </script><b>", 'one, "quoted"', *(str(k) for k in range(2, 10))])
    np.savez(task.folder / "bare.npz", **arrays)
    settings = ["optim.epochs=4", "optim.lr=0.05", "optim.batch_size=32", "views.count=1", "method=kl"]
    models = load_model(task.student), [load_model(task.teacher)]
    data = load_data(f"npz:{task.folder / 'bare.npz'}")
    transfer(*models, data, task.folder / "run", with_settings(TransferConfig(), settings))
    verify(task.folder / "run", ask=8)
    return task.folder / "run"


def test_a_person_answers_with_keys_and_saves_the_file(browser, run, tmp_path):
    with opened(browser, run / "ask.html", accept_downloads=True) as page:
        shown = []
        assert page.evaluate("document.images[0].naturalWidth") > 0
        for key in ("1", "2", "1", "Backspace", "3", "s", "2"):
            options = page.locator("#options button").all_inner_texts()
            if key in "123s":
                shown.append(options)
            page.keyboard.press(key)
        assert page.locator("#counted").inner_text() == "5 of 8"
        page.wait_for_timeout(1000)  # the browser writes in its own time
        page.reload()
        assert page.locator("#counted").inner_text() == "5 of 8", "a reload loses nothing"
        for _ in range(3):
            page.locator("#options button").first.click()
        assert page.locator("#done").is_visible() and page.locator("#asking").is_hidden()
        with page.expect_download() as download:
            page.keyboard.press("w")
        path = tmp_path / "answers.csv"
        shutil.copy(Path(download.value.path()), path)
        verify(run, ask=11)
        page.reload()
        assert page.locator("#counted").inner_text() == "8 of 11", "more questions go on where fewer left off"
        verify(run, ask=6)
        page.reload()
        assert page.locator("#counted").inner_text() == "6 of 6" and page.locator("#done").is_visible()
        page.keyboard.press("Backspace")
        assert page.locator("#counted").inner_text() == "5 of 6"
        page.evaluate("localStorage.clear()")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = read_differences(run)
    assert [row["sample"] for row in rows] == [written_id(found.ids[row].item()) for row in found.order[:8]]
    assert [row["label"] for row in rows][2:4] == ["neither", ""]
    for row, place in zip(rows, found.order, strict=False):
        both = {found.classes[found.old[place]], found.classes[found.new[place]]}
        assert row["label"] in both | {"neither", ""}
    assert read_answers(found, path).answered == 7
    assert len(verify(run, labels=path)["looks"]) == 1
