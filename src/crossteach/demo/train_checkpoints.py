"""Train the demo's models from scratch until validation stalls.

    python -m crossteach.demo.train_checkpoints [NAME ...] [--data SPEC] [--out FOLDER] [--zoo FILE.py]

Fresh views of the transfer's own augmentation in every epoch; AdamW; the rate falls to a third whenever the accuracy on
the selection split has not risen for some epochs, and training ends when it has fallen four times. The weights with the
best selection accuracy are kept; the test split is only read for the last line.
"""

import argparse
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F

from ..averaging import snapshot
from ..data import load_data
from ..data.views import Views, augmentation
from ..models.torch_classifier import TorchClassifier, from_pretrained_cfg
from ..models.weights import write_weights
from ..pixels import prepare
from ..prediction import predict
from ..types import Splits
from . import zoo

USUAL_PATIENCE, PATIENCE = 7, {"mlp": 12}
"""Epochs without a rise before the rate falls; with 7 the MLP stopped early once, 1.6 points lower."""
FALLS, MOST_EPOCHS, BATCH, DECAY = 4, 250, 128, 0.02


def train(
    name: str,
    data: Splits,
    folder: Path,
    most_epochs: int = MOST_EPOCHS,
    patience: int | None = None,
    seed: int = 0,
    architectures: ModuleType = zoo,
) -> None:
    """Train one architecture and write its weights."""
    torch.manual_seed(seed)
    module = getattr(architectures, name)(len(data.classes))
    rate = architectures.RATES[name]
    strength = getattr(architectures, "STRENGTHS", {}).get(name, 1.0)
    preprocess = from_pretrained_cfg(module.pretrained_cfg)
    model = TorchClassifier(f"zoo:{name}", name, module, preprocess, len(data.classes), {"factory": name})
    views = Views(seed=1000 + seed, count=0, augmentation=augmentation(data.augmentation, strength))
    optimiser = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, "max", factor=1 / 3, patience=patience or PATIENCE.get(name, USUAL_PATIENCE)
    )
    labels = torch.from_numpy(data.train.labels)
    best, best_weights = 0.0, snapshot(module)
    for epoch in range(most_epochs):
        started = time.perf_counter()
        module.train()
        order = np.random.default_rng((seed, epoch)).permutation(len(data.train))
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            images = views.batch(data.train, index, views.numbers(epoch, len(index))).images(preprocess)
            loss = F.cross_entropy(module(prepare(images, preprocess)), labels[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        module.eval()
        accuracy = predict(model, data.selection).accuracy
        if accuracy > best:
            best, best_weights = accuracy, snapshot(module)
        schedule.step(accuracy)
        now = optimiser.param_groups[0]["lr"]
        seconds = time.perf_counter() - started
        print(
            f"{name} epoch {epoch} loss {loss.item():.3f} selection {accuracy:.2f} rate {now:.1e} {seconds:.1f}s",
            flush=True,
        )
        if now < rate * 3.0 ** (0.5 - FALLS):
            break
    module.load_state_dict(best_weights)
    write_weights(module, folder / f"{name}.safetensors")
    print(
        f"{name}: selection {best:.2f} test {predict(model, data.test).accuracy:.2f} parameters {model.n_parameters}",
        flush=True,
    )


def main() -> None:
    """Train the models that are asked for, or all."""
    parser = argparse.ArgumentParser(description="Train the demo's models from scratch until validation stalls.")
    parser.add_argument("names", nargs="*", help="architectures of the zoo; all by default")
    parser.add_argument("--data", default="glyphs", help="data spec")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "checkpoints")
    parser.add_argument("--most-epochs", type=int, default=MOST_EPOCHS, help="stop here at the latest")
    parser.add_argument(
        "--patience", type=int, help="epochs without a rise before the rate falls; by default the model's own"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zoo", type=Path, help="a file of architectures with RATES; by default the demo's own")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = load_data(arguments.data)
    architectures = zoo
    if arguments.zoo is not None:
        spec = spec_from_file_location(arguments.zoo.stem, arguments.zoo)
        assert spec is not None and spec.loader is not None, f"{arguments.zoo} is no Python file"
        architectures = module_from_spec(spec)
        spec.loader.exec_module(architectures)
    for name in arguments.names or architectures.RATES:
        train(name, data, arguments.out, arguments.most_epochs, arguments.patience, arguments.seed, architectures)


if __name__ == "__main__":
    main()
