"""What `crossteach.functional` hands out: every public function of its modules, documented, and lazily."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossteach import functional

INTERNAL = {
    "flips": "as crossteach.flips; here a module bears the name",
    "require_labels": "a check that rules share",
    "mean_of_prefixes": "the inner sum of Closeness",
}
MODULES = [module.name for module in pkgutil.iter_modules(functional.__path__)]


def own(module: str) -> dict[str, object]:
    """Return the functions and classes that a module defines itself and does not keep private."""
    found = importlib.import_module(f"crossteach.functional.{module}")
    made = {n: o for n, o in vars(found).items() if inspect.isfunction(o) or inspect.isclass(o)}
    return {n: o for n, o in made.items() if not n.startswith("_") and o.__module__ == found.__name__}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_is_handed_out(module):
    defined = set(own(module)) - set(INTERNAL)
    handed_out = set(functional.PUBLIC[module])
    assert not defined - handed_out
    for name in handed_out:
        found = getattr(importlib.import_module(f"crossteach.functional.{module}"), name)
        assert getattr(functional, name) is found


def test_the_names_that_type_checkers_see_are_those_that_are_there():
    tree = ast.parse(Path(functional.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(node.module, alias.asname) for node in block.body for alias in node.names}
    assert seen == {(module, name) for module, names in functional.PUBLIC.items() for name in names}
    assert functional.__all__ == sorted(functional.__all__) == sorted({name for _, name in seen})
    assert set(functional.__all__) <= set(dir(functional))


@pytest.mark.parametrize("name", sorted(functional.__all__))
def test_every_function_has_an_example_or_a_source(name):
    found = getattr(functional, name)
    if not inspect.isfunction(found):
        return
    told = inspect.getdoc(found) or ""
    assert "Example:" in told or "Source:" in told


def test_importing_it_loads_no_torch_and_an_unknown_name_is_an_attribute_error():
    check = "import sys, crossteach.functional\nassert not {'torch', 'numpy', 'scipy'} & set(sys.modules)\n"
    check += "from crossteach.functional import holm\nassert 'torch' not in sys.modules\n"
    check += "from crossteach.functional import mixtures, positive_flips\nassert callable(mixtures.soft)\n"
    subprocess.run([sys.executable, "-c", check], check=True)
    with pytest.raises(AttributeError, match=r"crossteach\.functional.*'magic'"):
        functional.magic  # noqa: B018
