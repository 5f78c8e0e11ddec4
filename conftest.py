"""Before anything of crossteach is imported: shapes and types in its signatures are checked at run time.

Nor is the hub asked for anything: its client reads that once, and waits 23 seconds where it finds no network.
"""

import os

import pytest
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
install_import_hook("crossteach", "typecheck.checked")


@pytest.fixture(autouse=True)
def torch_in_doctests(doctest_namespace):
    """Let examples in docstrings use torch without an import."""
    import torch

    doctest_namespace["torch"] = torch
