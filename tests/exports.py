"""Exports, and a process that cannot import crossteach, in which they are opened."""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch

RESNET = "timm:test_resnet?pretrained=false&num_classes=10&in_chans=1&size=32&mean=0.3&std=0.25"
VIT = "timm:test_vit?pretrained=false&num_classes=10&img_size=32&size=32&mean=0.4,0.5,0.6&std=0.3"

PREAMBLE = "import sys\nsys.modules['crossteach'] = None\nsys.path.insert(0, '')\n"
"""An import of crossteach is an error then, however it is installed; the folder's own files can be imported."""


def run_alone(code: str, folder: Path) -> str:
    """Run Python in a folder, without crossteach, and without a network; return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", PREAMBLE + code],
        cwd=folder,
        env={**environment, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines_of(folder: Path) -> str:
    """Return the Python of an export's README, with its folder filled in."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code.replace("FOLDER", str(folder))


def ask_alone(folder: Path, images: torch.Tensor, ask: str) -> tuple[torch.Tensor, str]:
    """Run the README's lines, then ask images; return logits and what the lines print."""
    torch.save(images, folder.parent / "images.pt")
    code = lines_of(folder) + f"\n\nimages = torch.load({str(folder.parent / 'images.pt')!r})\n"
    code += f"with torch.no_grad():\n    torch.save({ask}, {str(folder.parent / 'logits.pt')!r})\n"
    printed = run_alone("import torch\n" + code, folder)
    return torch.load(folder.parent / "logits.pt"), printed


def digest_of(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
