"""A training loop of your own: plain PyTorch, Lightning, and the Trainer of transformers, each with `TransferLoss`.

    python recipes/own_loop.py [--student SPEC --teacher SPEC --data SPEC --steps N]

The heart is one object. It takes the logits of the student, of its frozen copy and of the teachers, and returns the
loss and who taught each sample. Everything else stays as it is in your loop. Afterwards `crossteach.decide` asks the
gate whether the new weights are shown to be better.

Expected (the demo's resnet taught by its mixer, 100 steps of 128 without augmentation, 2 CPU cores): the three loops
give the same losses, and print the same verdict of the gate.
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import lightning
import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import crossteach

RATE = 0.003
Batches = Iterable[tuple[Tensor, Tensor]]
"""Images in [0, 1], and labels; −100 where a sample has none."""


def plain_loop(student: Any, teachers: Sequence[Any], batches: Batches) -> list[float]:
    """Train in plain PyTorch."""
    frozen, loss_of = student.clone(), crossteach.TransferLoss("xe+dp")
    optimiser = torch.optim.SGD(student.module.parameters(), RATE, momentum=0.9)
    student.module.eval()  # dropout off, statistics of batch norm frozen: what the student knows stays
    losses = []
    for images, labels in batches:
        with torch.no_grad():
            old, known = frozen.logits(images), [teacher.logits(images) for teacher in teachers]
        loss, _ = loss_of(student.logits(images), old, known, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


class LightningTransfer(lightning.LightningModule):
    """Train with Lightning: `lightning.Trainer(...).fit(LightningTransfer(student, teachers), loader)`."""

    def __init__(self, student: Any, teachers: Sequence[Any]) -> None:
        super().__init__()
        self.student, self.frozen, self.teachers = student, student.clone(), teachers
        self.module = student.module  # Lightning sees what learns
        self.loss_of = crossteach.TransferLoss("xe+dp")
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        self.module.eval()
        with torch.no_grad():
            old, known = self.frozen.logits(images), [teacher.logits(images) for teacher in self.teachers]
        loss, _ = self.loss_of(self.student.logits(images), old, known, labels)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return what moves the student."""
        return torch.optim.SGD(self.module.parameters(), RATE, momentum=0.9)


class TransferTrainer(transformers.Trainer):
    """Train with the Trainer of transformers; a sample of its data set is `{"images": …, "labels": …}`."""

    def __init__(self, student: Any, teachers: Sequence[Any], **given: Any) -> None:
        optimiser = torch.optim.SGD(student.module.parameters(), RATE, momentum=0.9)
        constant = torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
        super().__init__(model=student.module, optimizers=(optimiser, constant), **given)
        self.student, self.frozen, self.teachers = student, student.clone(), teachers
        self.loss_of = crossteach.TransferLoss("xe+dp")
        self.losses: list[float] = []

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Return the loss of a batch."""
        images = inputs["images"]
        model.eval()
        with torch.no_grad():
            old, known = self.frozen.logits(images), [teacher.logits(images) for teacher in self.teachers]
        loss, _ = self.loss_of(self.student.logits(images), old, known, inputs["labels"])
        self.losses.append(loss.item())
        return loss


def fit_lightning(student: Any, teachers: Sequence[Any], loader: DataLoader[Any]) -> list[float]:
    """Run the Lightning module over a loader once."""
    module = LightningTransfer(student, teachers)
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    lightning.Trainer(max_epochs=1, accelerator="cpu", **off).fit(module, loader)  # type: ignore[arg-type]
    return module.losses


def fit_transformers(student: Any, teachers: Sequence[Any], data: TensorDataset, batch_size: int) -> list[float]:
    """Run the Trainer of transformers over a data set once, in its order."""
    samples = [{"images": images, "labels": labels} for images, labels in data]
    given = transformers.TrainingArguments(
        per_device_train_batch_size=batch_size,
        num_train_epochs=1,
        max_grad_norm=0.0,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        train_sampling_strategy="sequential",
    )
    trainer = TransferTrainer(student, teachers, args=given, train_dataset=samples)  # type: ignore[arg-type]
    trainer.train()
    return trainer.losses


def main() -> None:
    """Train the same student three times, and ask the gate."""
    parser = argparse.ArgumentParser(description="TransferLoss in three loops.")
    parser.add_argument("--student", default="demo:resnet")
    parser.add_argument("--teacher", default="demo:mixer")
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=128)
    arguments = parser.parse_args()
    splits = crossteach.load_data(arguments.data)
    rows = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(0))
    rows = rows[: arguments.steps * arguments.batch_size].numpy()
    part = splits.train.take(rows)
    images, labels = part.inputs.read(part.input_rows(torch.arange(len(rows)).numpy()), None, None), part.labels
    data = TensorDataset(images, torch.from_numpy(labels))
    loader: DataLoader[Any] = DataLoader(data, arguments.batch_size)
    loops = {
        "plain PyTorch": lambda student, teachers: plain_loop(student, teachers, loader),
        "Lightning": lambda student, teachers: fit_lightning(student, teachers, loader),
        "transformers": lambda student, teachers: fit_transformers(student, teachers, data, arguments.batch_size),
    }
    for name, loop in loops.items():
        student, teachers = crossteach.load_model(arguments.student), [crossteach.load_model(arguments.teacher)]
        before = crossteach.predict(student, splits.selection)
        losses = loop(student, teachers)
        verdict = crossteach.decide(before, crossteach.predict(student, splits.selection))
        print(f"{name}: loss {losses[0]:.6f} to {losses[-1]:.6f}, gate: {verdict.verdict}", flush=True)


if __name__ == "__main__":
    main()
