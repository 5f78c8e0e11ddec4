"""What every test gets. The run-time checks of shapes are installed by conftest.py in the root, for doctests too."""

import random

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch

# How long an example takes is no property, and what passed once passes again: new examples are looked for by hand, with
# --hypothesis-profile=default.
hypothesis.settings.register_profile("any machine", deadline=None, derandomize=True)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _same_draws():
    """Let a test that draws weights or images without a seed draw the same ones each time."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what libraries draw from
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def store_folder(tmp_path_factory, monkeypatch):
    """Keep the user's store out of the tests."""
    folder = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("CROSSTEACH_STORE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _small_numbers():
    """Undo what a command that ran in this process has set for all of it: numbers below 1e-38 are no 0."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def unchecked():
    """Switch the run-time checks off: what the package itself refuses is what its users meet."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
