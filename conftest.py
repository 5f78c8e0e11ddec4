"""Before anything of crossteach is imported: shapes and types in its signatures are checked at run time.

The hub is not asked for anything. Its client reads that where it is imported, and waits 23 seconds for a network.
"""

import os

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
install_import_hook("crossteach", "typecheck.checked")


@pytest.fixture(autouse=True)
def torch_in_doctests(doctest_namespace):
    """Let examples in docstrings use torch without an import."""
    import torch

    doctest_namespace["torch"] = torch
