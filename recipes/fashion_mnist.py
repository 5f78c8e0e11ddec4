"""The table of all pairs and methods on Fashion-MNIST, with four small models trained to the end.

    apt-get install dataset-fashion-mnist
    python recipes/fashion_mnist.py [--folder /usr/share/datasets/fashion-mnist] [--out runs/fashion_mnist]

The demo's architectures are trained on all 60,000 training images until validation stalls. Half of the test images
select, the other half reports. The transfer set is a stratified fifth of the training images.

Expected: RESULT
"""

import argparse
import subprocess
import sys
from pathlib import Path

from pairs import METHODS, show, study

NAMES = ("mlp", "mixer", "resnet", "convnet")
TRANSFER_SET = 12000


def main() -> None:
    """Train what is not trained yet, run what is not run yet, print the tables."""
    parser = argparse.ArgumentParser(description="All pairs and methods on Fashion-MNIST.")
    parser.add_argument("--folder", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion_mnist"))
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--most-epochs", default="150", help="of the training from scratch")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    models = arguments.out / "models"
    data = f"idx:{arguments.folder}?selection_from=test"
    missing = [name for name in arguments.models if not (models / f"{name}.safetensors").is_file()]
    training = [sys.executable, "-m", "crossteach.demo.train_checkpoints", "--data", data, "--out", str(models)]
    training += ["--patience", "3", "--most-epochs", arguments.most_epochs]
    workers = [subprocess.Popen([*training, *missing[start::2]]) for start in (0, 1) if missing[start::2]]
    for worker in workers:
        if worker.wait():
            sys.exit("a training failed; see above")
    specs = [f"py:crossteach.demo.zoo:{name}@{models / name}.safetensors?num_classes=10" for name in arguments.models]
    transfer_set = f"{data}&train_samples={TRANSFER_SET}"
    print(show(study(specs, transfer_set, arguments.out / "pairs", METHODS, arguments.settings), specs))


if __name__ == "__main__":
    main()
