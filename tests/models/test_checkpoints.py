"""Checkpoints as training scripts leave them: wrapped, prefixed, in shards, beside the arguments of the script."""

import argparse
import json
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from crossteach import load_model
from crossteach.errors import WeightsError
from crossteach.models.checkpoints import read_checkpoint, without_wrappers

ZOO = """
from torch import nn

def dense(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))
"""
OPTIONS = "?channels=1&size=8&mean=0&std=1"


@pytest.fixture
def module():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.fixture
def opened(tmp_path, module):
    """Open a file of the folder as the model's weights, and see that they are the module's."""
    (tmp_path / "zoo.py").write_text(ZOO)

    def check(file, options=""):
        model = load_model(f"py:{tmp_path}/zoo.py:dense@{tmp_path / file}{OPTIONS}{options}")
        for name, value in module.state_dict().items():
            assert torch.equal(model.module.state_dict()[name], value)
        return model.notes

    return check


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (nn.DataParallel, "module."),
        (torch.compile, "_orig_mod."),
        (lambda m: nn.DataParallel(torch.compile(m)), "module._orig_mod."),
        (AveragedModel, "module."),
        (lambda m: nn.ModuleDict({"model": m}), "model."),
    ],
)
def test_prefixes_of_wrappers_are_taken_off_and_said(tmp_path, module, opened, wrap, prefix):
    torch.save(wrap(module).state_dict(), tmp_path / "wrapped.pth")
    assert opened("wrapped.pth") == (f"the prefix {prefix} was taken off the names of all weights",)


def test_a_prefix_that_the_model_has_itself_stays():
    own = {"model.weight": torch.zeros(1)}
    assert without_wrappers(own, own) == (own, ())
    other = {"module.head": torch.zeros(1)}
    assert without_wrappers(other, own) == (other, ()), "what helps nothing is not done"
    assert without_wrappers({}, own) == ({}, ())


def test_a_prefix_that_gains_nothing_stays_and_one_behind_it_is_found():
    zero = torch.zeros(1)
    both = {"model.a": zero, "a": zero, "b": zero}
    tie = {"model.a": zero, "model.c": zero}
    assert without_wrappers(tie, both) == (tie, ()), "as many names are known with it as without"
    taken, (note,) = without_wrappers({"module.model.a": zero, "module.model.b": zero}, {"a": zero, "b": zero})
    assert set(taken) == {"a", "b"} and note.startswith("the prefix module.model. was")
    taken, (note,) = without_wrappers({"module.model.a": zero}, {"model.a": zero, "a": zero})
    assert set(taken) == {"model.a"} and note.startswith("the prefix module. was"), "no more than is needed"


@pytest.mark.parametrize("key", ["net", "model_state_dict", "network", "anything"])
def test_the_weights_are_found_beside_a_namespace_and_averaged_ones_only_when_asked(tmp_path, module, opened, key):
    averaged = {name: value + 1 for name, value in module.state_dict().items()}
    content = {"epoch": 3, "args": argparse.Namespace(lr=0.1, model="x"), "model_ema": averaged}
    torch.save({**content, key: module.state_dict()}, tmp_path / "last.pth.tar")
    (note,) = opened("last.pth.tar")
    assert note == f"last.pth.tar holds several state dicts: {key} is used; ?weights= chooses model_ema"
    found, notes = read_checkpoint(tmp_path / "last.pth.tar", "model_ema")
    assert torch.equal(found["1.bias"], averaged["1.bias"]) and not notes
    torch.save(content, tmp_path / "only.pth")
    assert torch.equal(read_checkpoint(tmp_path / "only.pth")[0]["1.bias"], averaged["1.bias"])


def test_a_file_ending_in_bin_is_read_as_torch_wrote_it(tmp_path, module, opened):
    torch.save(module.state_dict(), tmp_path / "pytorch_model.bin")
    assert opened("pytorch_model.bin") == ()


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_read_by_their_index(tmp_path, module, opened, suffix):
    state = module.state_dict()
    places = {name: f"part-{k % 2}.{suffix}" for k, name in enumerate(state)}
    for shard in sorted(set(places.values())):
        part = {name: state[name] for name in state if places[name] == shard}
        (save_file if suffix == "safetensors" else torch.save)(part, tmp_path / shard)
    index = tmp_path / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert opened(index.name) == ()
    (tmp_path / f"part-1.{suffix}").unlink()
    with pytest.raises(WeightsError, match=r"no weights file .*part-1"):
        read_checkpoint(index)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is no index of shards"),
        ("[" * 100_000, "is no index of shards"),
        ('{"weight_map": 3}', "is no index of shards"),
        ('{"weight_map": {"a": "../outside.bin"}}', "expected the name of a file beside it"),
        ('{"weight_map": {"a": "own.index.json"}}', "expected the name of a file beside it"),
        ('{"weight_map": {"a": 3}}', "expected the name of a file beside it"),
        ('{"weight_map": {"absent": "part.safetensors"}}', "says that part.safetensors holds 'absent'"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, content, says):
    save_file({"there": torch.zeros(1)}, tmp_path / "part.safetensors")
    path = tmp_path / "own.index.json"
    path.write_text(content)
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(path)


def test_what_does_not_fit_shows_names_of_both_sides(tmp_path, opened):
    torch.save({f"blocks.{k}.weight": torch.zeros(1) for k in range(5)}, tmp_path / "other.pt")
    with pytest.raises(
        WeightsError, match=r"the file has blocks.0.weight, blocks.1.weight, .* and 2 more; the model has"
    ):
        opened("other.pt")


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda weight: weight.to("meta")])
def test_tensors_that_hold_no_number_for_each_place_are_refused(tmp_path, module, opened, change):
    torch.save(module.state_dict() | {"1.weight": change(module[1].weight.detach())}, tmp_path / "hollow.pt")
    warnings.filterwarnings("ignore", "Validating sparse")  # of torch.load
    with pytest.raises(WeightsError, match=r"without numbers: 1.weight \((torch.sparse_coo|meta)\)"):
        opened("hollow.pt")


def test_a_pickle_that_misuses_torchs_own_functions_is_damaged(tmp_path):
    class Wrong:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (1, 2)

    torch.save({"a": Wrong()}, tmp_path / "wrong.pt")
    with pytest.raises(WeightsError, match="is not a whole torch file"):
        read_checkpoint(tmp_path / "wrong.pt")


class Runs:
    def __reduce__(self):
        return print, ("run",)


def test_code_beside_a_namespace_is_still_refused(tmp_path, module, capsys):
    torch.save({"args": argparse.Namespace(hook=Runs()), "model": module.state_dict()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="could run code"):
        read_checkpoint(tmp_path / "evil.pt")
    assert "run" not in capsys.readouterr().out
