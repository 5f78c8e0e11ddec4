"""What tests of data share."""

import numpy as np
import pytest


@pytest.fixture
def arrays():
    """The arrays of a small data set, under the keys of `npz:`; no image is like another."""
    rng = np.random.default_rng(0)
    parts = {"train": 60, "val": 30, "test": 40}
    made = {f"x_{part}": rng.integers(0, 256, (n, 8, 8), np.uint8) for part, n in parts.items()}
    return made | {f"y_{part}": np.arange(n) % 3 for part, n in parts.items()}
