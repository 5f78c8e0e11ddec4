"""The same distillation step in crossteach, in torchdistill, and in a plain PyTorch loop; and two ways to partition.

    pip install torchdistill==1.1.5
    python benchmarks/peers.py [--rounds 9]

All distil one teacher into one student by KL, teacher live, SGD, batches of 128 in the same order on the same machine,
in turn within one process: the demo's residual network from its mixer on warped glyphs, and a ResNet-18 of timm from
another at 64 px and 1,000 classes, random weights. The plain loop is the shortest that does the job, on images that lie
ready, and so is torchdistill fed; crossteach draws its views in the step, asks the teacher the way it is stored, clips
the gradient, counts who taught, and checks for divergence. `crossteach, stored` reads the teacher's answers.

The partition: 256 samples of 1,000 classes, one teacher, by crossteach and by a loop over samples in Python, which is
how the code that was published with the paper chooses.

SPEED_CPU_2026-11-27.md has results.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from step_time import in_turn, task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from crossteach import Store, TrainableClassifier, TransferConfig, TransferLoss
from crossteach.answers.tutors import LiveTutors, fill_store
from crossteach.data.views import Views, augmentation
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.sources import Source
from crossteach.transferring.training import train

STEPS = {"demo": 20, "resnet18": 3}
RATE, MOMENTUM = 1e-4, 0.9


def plain_loop(student: nn.Module, teacher: nn.Module, images: Tensor) -> None:
    """Distil as one writes it in ten lines."""
    optimiser = torch.optim.SGD(student.parameters(), lr=RATE, momentum=MOMENTUM)
    for batch in images.split(128):
        with torch.no_grad():
            target = teacher(batch).log_softmax(1)
        loss = F.kl_div(student(batch).log_softmax(1), target, reduction="batchmean", log_target=True)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def torchdistills(student: nn.Module, teacher: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return an epoch of torchdistill's box over the same images."""
    from torchdistill.core.distillation import get_distillation_box

    paths = {f"{who}_module_{what}" for who in ("student", "teacher") for what in ("path", "io")}
    logits = {name: "." if name.endswith("path") else "output" for name in paths}
    loss = {"key": "KDLoss", "kwargs": {**logits, "temperature": 1.0, "alpha": 0.0}}
    loader = {"dataset_id": "images", "sampler": {"class_or_func": torch.utils.data.SequentialSampler, "kwargs": {}}}
    model = {"forward_proc": "forward_batch_only", "sequential": [], "wrapper": None}
    box = get_distillation_box(
        teacher,
        student,
        {"images": TensorDataset(images, torch.zeros(len(images), dtype=torch.long))},
        {
            "num_epochs": 1,
            "train_data_loader": {**loader, "kwargs": {"batch_size": 128}, "requires_supp": True},
            "val_data_loader": {**loader, "kwargs": {"batch_size": 128}},
            "teacher": {**model, "requires_grad": False},
            "student": {**model, "requires_grad": True, "frozen_modules": []},
            "optimizer": {"key": "SGD", "kwargs": {"lr": RATE, "momentum": MOMENTUM}},
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
            },
        },
        torch.device("cpu"),
        None,
        False,
        1.0,
    )

    def epoch() -> None:
        box.pre_epoch_process(epoch=0)
        for batch, targets, more in box.train_data_loader:
            box.pre_forward_process()
            box.post_forward_process(box.forward_process(batch, targets, more))

    return epoch


def cases(name: str, folder: str) -> dict[str, Callable[[], object]]:
    """Return what takes turns: the same steps of the same student."""
    student, teacher, data = task(name)
    count, views = STEPS[name] * 128, Views(0, 1, augmentation("warp", 0.5))
    part = data.train.take(np.arange(count))
    images = views.batch(part, np.arange(count), np.zeros(count, np.int64)).images(student.preprocess)
    ready = prepared(student, images)
    plan = TrainingPlan(METHODS["kl"], replaced(), (Source(part, views, 128, LiveTutors([teacher])),), RATE, 1)
    stored = replace(plan.sources[0], tutors=fill_store([teacher], part, views, Store(folder)))
    theirs = torchdistills(student.clone().module, teacher.module, ready)
    return {
        "plain loop": lambda: plain_loop(student.clone().module, teacher.module, ready),
        "torchdistill": theirs,
        "crossteach, live": lambda: train(student.clone(), plan),
        "crossteach, stored": lambda: train(student.clone(), replace(plan, sources=(stored,))),
    }


def replaced() -> TransferConfig:
    """Return the settings of the plain loop: a constant rate."""
    config = TransferConfig()
    return replace(config, optim=replace(config.optim, schedule="constant", warmup=0.0))


def prepared(student: TrainableClassifier, images: Tensor) -> Tensor:
    """Return images as the module takes them."""
    ready = student.prepared(images)
    assert isinstance(ready, Tensor)
    return ready


def one_by_one(frozen: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Choose each sample's tutor in a loop over samples."""
    chosen = []
    for i in range(len(labels)):
        old, new = frozen[i].softmax(0)[labels[i]], teacher[i].softmax(0)[labels[i]]
        chosen.append(teacher[i] if new > old else frozen[i])
    return torch.stack(chosen)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="The same step in crossteach, torchdistill and a plain loop.")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    for name in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            found = in_turn(cases(name, folder), arguments.rounds)
        print(name)
        for what, seconds in found.items():
            ratio = np.median(seconds / found["plain loop"])
            print(f"  {what}: {1e3 * np.median(seconds) / STEPS[name]:.2f} ms a step, {ratio:.3f} of the plain loop")
    random = torch.Generator().manual_seed(0)
    frozen, teacher = torch.randn(2, 256, 1000, generator=random).unbind()
    labels, loss = torch.randint(1000, (256,), generator=random), TransferLoss("kl+dp")
    both = torch.stack([frozen, teacher])
    assert torch.equal(one_by_one(frozen, teacher, labels), loss.targets(both, labels, None, 256)[0])  # type: ignore[arg-type]
    found = in_turn(
        {
            "crossteach": lambda: loss.targets(both, labels, None, 256),
            "a loop over samples": lambda: one_by_one(frozen, teacher, labels),
        },
        arguments.rounds,
    )
    for what, seconds in found.items():
        print(f"partition of 256 samples, {what}: {1e3 * np.median(seconds):.2f} ms")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchdistill", "timm"))
    print(f"{versions}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
