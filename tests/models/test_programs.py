"""TorchScript archives and exported programs: opened where the user vouches for them, and they answer as torch does."""

import io
import json
import os
import subprocess
import sys
import zipfile

import box_files
import digits
import pytest
import timm
import torch
from commands import call
from torch import nn

from crossteach import load_model
from crossteach.errors import ModelError, TrustError, WeightsError
from crossteach.models.scoring import score

SIZED = "?size=160&channels=3&mean=0.5&std=0.25"


def module(name="test_vit"):
    return timm.create_model(name, pretrained=False, num_classes=7).eval()


@pytest.mark.parametrize("kind", ["traced", "scripted in train mode", "export", "export of one", "traced of one"])
def test_a_program_answers_as_torch_does(tmp_path, kind):
    net, shape, options, batch = module(), (3, 160, 160), "?mean=0.5&std=0.25", None
    if kind == "scripted in train mode":
        net = module("test_resnet").train()
        spec, options = box_files.to_torchscript(net, tmp_path / "net.pt"), SIZED
        net.eval()
    elif kind == "traced":
        spec, options = box_files.to_torchscript(net, tmp_path / "net.pt", shape), SIZED
    elif kind == "traced of one":
        net = nn.Sequential(net, nn.Unflatten(0, (1, 1)), nn.Flatten(0, 1)).eval()  # takes one image, and cannot say so
        spec, options, batch = box_files.to_torchscript(net, tmp_path / "net.pt", shape, batch=1), SIZED, 1
    else:
        batch = 1 if kind == "export of one" else None
        spec = box_files.to_export(net, tmp_path / "net.pt2", shape, batch)
    model, images = load_model(spec + options, trust=True), torch.rand(3, 3, 160, 160)
    assert (model.n_classes, model.preprocess.size, model.batch, model.outputs) == (7, (160, 160), batch, "logits")
    assert model.n_parameters == sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        expected = torch.cat([net((image[None] - 0.5) / 0.25) for image in images])
    torch.testing.assert_close(score(model, images), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(score(model, images), score(model, images))
    assert model.fingerprint == load_model(spec + options, trust=True).fingerprint


def test_what_was_not_exported_in_evaluation_mode_is_refused(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.BatchNorm1d(5))
    spec = box_files.to_export(net.train(), tmp_path / "net.pt2", (3, 4, 4), batch=4)
    with pytest.raises(ModelError, match="changes its own state when it is asked; export it in evaluation mode"):
        load_model(spec, trust=True)


@pytest.mark.parametrize("scheme", ["torchscript", "export"])
def test_a_program_is_opened_with_trust_only(tmp_path, scheme):
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    make = {"torchscript": box_files.to_torchscript, "export": box_files.to_export}[scheme]
    spec = make(net, tmp_path / "net.pt2", (3, 4, 4))
    with pytest.raises(TrustError, match=r"could run code hidden in the file; .*--trust .*trust: true.*trust=True"):
        load_model(spec)
    assert load_model(f"{spec}?size=4&channels=3", trust=True).n_classes == 5


def test_the_command_line_hands_trust_on(tmp_path, capsys):
    task = digits.make(tmp_path)
    spec = (
        box_files.to_torchscript(load_model(task.teacher).module, tmp_path / "net.pt", (1, 8, 8)) + "?size=8&channels=1"
    )
    command = ["check", spec, "--data", task.data, "--json"]
    code, out, err = call(capsys, *command)
    assert (code, out, len(err.splitlines())) == (1, "", 1) and "torch.jit.load" in err
    code, out, err = call(capsys, *command, "--trust")
    assert code == 0, err
    assert json.loads(out)["verdict"] == "ok"


def test_torch_export_does_run_code_of_a_file(tmp_path):
    """Why trust is asked for: if torch stops doing so, the question may go."""
    box_files.to_export(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), tmp_path / "net.pt2", (3, 4, 4))
    evil, ran = tmp_path / "evil.pt2", tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    pickled = io.BytesIO()
    torch.save(Evil(), pickled)
    with zipfile.ZipFile(tmp_path / "net.pt2") as good, zipfile.ZipFile(evil, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, pickled.getvalue() if "sample_inputs" in name else good.read(name))
    with pytest.raises(TrustError):
        load_model(f"export:{evil}")
    assert not ran.exists()
    with pytest.raises(WeightsError):
        load_model(f"export:{evil}", trust=True)
    assert ran.exists()


def test_opening_makes_no_noise(tmp_path):
    spec = box_files.to_torchscript(module(), tmp_path / "net.pt", (3, 160, 160))
    other = box_files.to_export(module(), tmp_path / "net.pt2", (3, 160, 160))
    code = "import json, sys; from crossteach import load_model\n"
    code += "print(json.dumps([load_model(s, trust=True).n_classes for s in sys.argv[1:]]))"
    done = subprocess.run([sys.executable, "-c", code, spec + SIZED, other], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [7, 7] and done.stderr == ""


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    (tmp_path / "no.pt2").write_bytes(b"hello")
    script = box_files.to_torchscript(module(), tmp_path / "net.pt", (3, 160, 160))
    program = box_files.to_export(module(), tmp_path / "net.pt2", (3, 160, 160))
    flat = box_files.to_export(nn.Linear(48, 5), tmp_path / "flat.pt2", (4, 12, 48))
    wrong = {
        "export:missing.pt2": (WeightsError, "no file missing.pt2"),
        f"export:{tmp_path / 'no.pt2'}": (WeightsError, "is no exported program"),
        f"torchscript:{tmp_path / 'no.pt2'}": (WeightsError, "is no TorchScript archive"),
        script.replace("torchscript", "export"): (WeightsError, "it has no archive_format"),
        program.replace("export", "torchscript"): (WeightsError, "is no TorchScript archive"),
        script: (ModelError, r"does not accept an image of any size .*; give size=, channels= and batch="),
        f"{program}?size=32": (ModelError, r"does not accept an image of \[3, 32, 32\]"),
        flat: (ModelError, r"does not accept an image|must answer logits"),
    }
    for spec, (error, says) in wrong.items():
        with pytest.raises(error, match=says) as refused:
            load_model(spec, trust=True)
        assert "\n" not in str(refused.value)


def test_a_bare_archive_is_told_from_weights(tmp_path):
    box_files.to_torchscript(module(), tmp_path / "net.pt", (3, 160, 160))
    with pytest.raises(Exception, match=r"but for a TorchScript archive: torchscript:.*net\.pt$"):
        load_model(str(tmp_path / "net.pt"))
