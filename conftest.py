"""Before anything of crossteach is imported: shapes and types in its signatures are checked at run time."""

import pytest
from jaxtyping import install_import_hook

install_import_hook("crossteach", "typecheck.checked")


@pytest.fixture(autouse=True)
def torch_in_doctests(doctest_namespace):
    """Let examples in docstrings use torch without an import."""
    import torch

    doctest_namespace["torch"] = torch
