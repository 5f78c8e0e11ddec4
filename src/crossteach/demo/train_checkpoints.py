"""Train the demo's models from scratch until validation stalls.

    python -m crossteach.demo.train_checkpoints [NAME ...] [--data SPEC] [--out FOLDER] [--zoo FILE.py] [--tail]

Fresh views of the transfer's own augmentation in every epoch; AdamW; the rate falls to a third whenever the accuracy on
the selection split has not risen for some epochs, and training ends when it has fallen four times. The weights with the
best selection accuracy are kept; the test split is only read for the last line.

Weights that are the best of many epochs on the selection split look better there than they are, and a gate that
compares them with new ones on that split sees losses that are not there. `--tail` mends that for models that stand in
the folder: some epochs more along a cosine to zero, of which the end is kept, whatever it scores.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F

from ..answers.prediction import predict
from ..data import load_data
from ..data.pixels import prepare
from ..data.views import Views, augmentation
from ..functional.averaging import snapshot
from ..models.checkpoints import read_weights
from ..models.preprocess import from_pretrained_cfg
from ..models.torch_classifier import TorchClassifier
from ..models.weights import fit_weights, write_weights
from ..types import Splits
from . import zoo

USUAL_PATIENCE, PATIENCE = 7, {"mlp": 12}
"""Epochs without a rise before the rate falls; with 7 the MLP stopped early once, 1.6 points lower."""
FALLS, MOST_EPOCHS, BATCH, DECAY = 4, 250, 128, 0.02
TAIL, TAIL_RATE = 12, 1 / 3
"""Epochs of a tail, and where its rate begins: a share of the rate that the model was trained with."""


class Pupil:
    """A model in training, with its optimiser and views."""

    def __init__(self, name: str, data: Splits, seed: int, architectures: ModuleType, strength: float) -> None:
        torch.manual_seed(seed)
        self.name, self.data, self.seed = name, data, seed
        self.rate = architectures.RATES[name]
        self.module = getattr(architectures, name)(len(data.classes))
        self.preprocess = from_pretrained_cfg(self.module.pretrained_cfg)
        described = {"factory": name}
        self.model = TorchClassifier(f"zoo:{name}", name, self.module, self.preprocess, len(data.classes), described)
        self.views = Views(seed=1000 + seed, count=0, augmentation=augmentation(data.augmentation, strength))
        self.optimiser = torch.optim.AdamW(self.module.parameters(), lr=self.rate, weight_decay=DECAY)

    def learn(self, epoch: int, before_step: Callable[[int], None] = lambda step: None) -> float:
        """Pass once over the training set in fresh views; return the accuracy on the selection split."""
        started = time.perf_counter()
        labels = torch.from_numpy(self.data.train.labels)
        self.module.train()
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data.train))
        for start in range(0, len(order), BATCH):
            before_step(start // BATCH)
            index = order[start : start + BATCH]
            view = self.views.batch(self.data.train, index, self.views.numbers(epoch, len(index)))
            images = prepare(view.images(self.preprocess), self.preprocess)
            loss = F.cross_entropy(self.module(images), labels[index])
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        self.module.eval()
        accuracy = predict(self.model, self.data.selection).accuracy
        rate, seconds = self.optimiser.param_groups[0]["lr"], time.perf_counter() - started
        report = f"loss {loss.item():.3f} selection {accuracy:.2f} rate {rate:.1e} {seconds:.1f}s"
        print(f"{self.name} epoch {epoch} {report}", flush=True)
        return accuracy

    def write(self, folder: Path) -> None:
        """Write the weights, and say what they score."""
        write_weights(self.module, folder / f"{self.name}.safetensors")
        scores = [predict(self.model, split).accuracy for split in (self.data.selection, self.data.test)]
        report = "selection {:.2f} test {:.2f}".format(*scores)
        print(f"{self.name}: {report} parameters {self.model.n_parameters}", flush=True)


def train(pupil: Pupil, most_epochs: int, patience: int) -> None:
    """Train until validation stalls; keep the best epoch."""
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(pupil.optimiser, "max", factor=1 / 3, patience=patience)
    best, best_weights = 0.0, snapshot(pupil.module)
    for epoch in range(most_epochs):
        accuracy = pupil.learn(epoch)
        if accuracy > best:
            best, best_weights = accuracy, snapshot(pupil.module)
        schedule.step(accuracy)
        if pupil.optimiser.param_groups[0]["lr"] < pupil.rate * 3.0 ** (0.5 - FALLS):
            break
    pupil.module.load_state_dict(best_weights)


def end_unpicked(pupil: Pupil, folder: Path) -> None:
    """Train the weights in the folder for some epochs more, and keep the end."""
    fit_weights(pupil.module, read_weights(folder / f"{pupil.name}.safetensors"), pupil.name)
    steps = math.ceil(len(pupil.data.train) / BATCH)

    def along_a_cosine(epoch: int, step: int) -> None:
        done = (epoch * steps + step) / (TAIL * steps)
        pupil.optimiser.param_groups[0]["lr"] = pupil.rate * TAIL_RATE * 0.5 * (1 + math.cos(math.pi * done))

    for epoch in range(TAIL):
        pupil.learn(MOST_EPOCHS + epoch, partial(along_a_cosine, epoch))


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
    parser.add_argument("--strength", type=float, help="of the views; by default the model's own")
    parser.add_argument("--tail", action="store_true", help="go on with the weights in --out, and pick nothing")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = load_data(arguments.data)
    architectures = zoo
    if arguments.zoo is not None:
        spec = spec_from_file_location(arguments.zoo.stem, arguments.zoo)
        assert spec is not None and spec.loader is not None, f"{arguments.zoo} is no Python file"
        architectures = module_from_spec(spec)
        spec.loader.exec_module(architectures)
    own = getattr(architectures, "TAIL_STRENGTHS" if arguments.tail else "STRENGTHS", {})
    for name in arguments.names or architectures.RATES:
        strength = own.get(name, 1.0) if arguments.strength is None else arguments.strength
        pupil = Pupil(name, data, arguments.seed, architectures, strength)
        if arguments.tail:
            end_unpicked(pupil, arguments.out)
        else:
            train(pupil, arguments.most_epochs, arguments.patience or PATIENCE.get(name, USUAL_PATIENCE))
        pupil.write(arguments.out)


if __name__ == "__main__":
    main()
