"""Equal images in two splits: counted, said, and taken out of what decides and reports."""

import numpy as np
import pytest
from PIL import Image

from crossteach.data import load_data
from crossteach.errors import DataError


def opened(tmp_path, arrays, options=""):
    np.savez(tmp_path / "data.npz", **arrays)
    return load_data(f"npz:{tmp_path / 'data.npz'}{options}")


def test_images_of_train_are_taken_out_of_selection_and_test(tmp_path, arrays):
    arrays["x_test"][5:9] = arrays["x_train"][10:14]
    arrays["x_val"][0] = arrays["x_train"][0]
    arrays["x_val"][1] = arrays["x_test"][20]
    data = opened(tmp_path, arrays)
    assert (len(data.train), len(data.selection), len(data.test)) == (60, 28, 36)
    assert data.test.labels.tolist() == np.delete(arrays["y_test"], range(5, 9)).tolist()
    read = data.test.inputs.read(data.test.input_rows(np.arange(36)), None, None)[:, 0].numpy() * 255
    assert np.array_equal(read.round().astype(np.uint8), np.delete(arrays["x_test"], range(5, 9), 0))
    assert data.notes == (
        "1 of 30 images of selection stand in train too and are taken out of selection; ?duplicates=keep keeps them",
        "4 of 40 images of test stand in train too and are taken out of test; ?duplicates=keep keeps them",
        "1 of 30 images of selection stand in test too and are taken out of selection; ?duplicates=keep keeps them",
    )


def test_they_may_be_kept_and_that_is_said(tmp_path, arrays):
    arrays["x_test"][:4] = arrays["x_train"][:4]
    data = opened(tmp_path, arrays, "?duplicates=keep")
    assert len(data.test) == 40
    assert data.notes == ("4 of 40 images of test stand in train too and are kept: figures may be too good",)
    unchecked = opened(tmp_path, arrays, "?duplicates=unchecked")
    assert len(unchecked.test) == 40 and unchecked.notes == ()
    with pytest.raises(DataError, match=r"option duplicates .* must be one of drop, keep, unchecked, not 'maybe'"):
        opened(tmp_path, arrays, "?duplicates=maybe")


def test_a_test_split_that_is_all_of_train_is_refused(tmp_path, arrays):
    """It once ran without a word."""
    arrays |= {"x_test": arrays["x_train"][:40], "y_test": arrays["y_train"][:40]}
    with pytest.raises(DataError, match=r"all 40 images of the test split .* nothing is left to judge by"):
        opened(tmp_path, arrays)


def test_a_selection_cut_from_a_train_split_of_one_image_is_refused(tmp_path, arrays):
    del arrays["x_val"], arrays["y_val"]
    arrays["x_train"][:] = arrays["x_train"][0]
    with pytest.raises(DataError, match="of the selection split"):
        opened(tmp_path, arrays)


def test_files_of_equal_content_are_equal_images(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / split / label / f"{i}.png")
    (tmp_path / "test" / "a" / "again.png").write_bytes((tmp_path / "train" / "b" / "1.png").read_bytes())
    data = load_data(f"folder:{tmp_path}")
    assert len(data.test) == 6
    assert "1 of 7 images of test stand in train too" in data.notes[0]


def test_images_that_differ_in_one_pixel_are_not_equal(tmp_path, arrays):
    arrays["x_test"][0] = arrays["x_train"][0]
    arrays["x_test"][0, 0, 0] ^= 1
    assert opened(tmp_path, arrays).notes == ()
